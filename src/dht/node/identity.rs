//! Who a node is: an id that follows from its address, as others see it (BEP 42).

use std::{net::SocketAddr, time::Duration};

use crate::dht::{
    contact::{Family, Subnet},
    id::Id,
    table::Table,
};

use super::Node;

/// Shortest time between two changes of the id.
const SETTLED: Duration = Duration::from_secs(10 * 60);

impl Node {
    /// The own address, as most others see it.
    pub(super) fn external(&self, family: Family) -> Option<SocketAddr> {
        self.votes[family.index()].winner()
    }

    /// Takes an id that the own address may have, when several networks see another one than before. Addresses that are
    /// not global may have any (BEP 42). One id serves both families (BEP 32); that of IPv4 decides.
    pub(super) fn follow_address(&mut self, now: Duration) {
        for family in Family::BOTH {
            let seen = self.votes[family.index()].confident().map(|addr| addr.ip());
            let before = &mut self.addresses[family.index()];
            if seen.is_some() && *before != seen {
                let is_another = before.is_some();
                *before = seen;
                if is_another {
                    // Whoever was told knows the address before; what it gave out is good for that alone.
                    self.moves += 1;
                    self.neighbourhoods.forget_tokens(family);
                    self.try_port_again(family, now);
                }
            }
        }
        let Some(ip) = self.addresses.into_iter().flatten().next().filter(|ip| Subnet::is_scarce(*ip)) else { return };
        let is_settled = self.renamed.is_some_and(|at| now.saturating_sub(at) < SETTLED);
        if self.own.is_rooted_in(ip) || is_settled {
            return;
        }
        self.renamed = Some(now);
        self.own = Id::rooted_in(ip, &mut self.rng);
        self.tables.iter_mut().for_each(|table: &mut Table| table.rename(self.own));
        self.server.rename(self.own);
        self.upkeep.handle_first_contact(now);
    }
}
