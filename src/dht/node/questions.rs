//! Questions that others ask a node, each within its budget.

use std::{net::SocketAddr, time::Duration};

use crate::dht::{
    contact::Contact,
    message::{Body, Packet, Query},
    serve::Envelope,
};

use super::{Node, Output, Transmit};

impl Node {
    /// Answers a question, and sees whether who asked is a node to remember.
    pub(super) fn handle_question(
        &mut self,
        from: SocketAddr,
        via: usize,
        packet: &Packet<'_>,
        len: usize,
        now: Duration,
    ) {
        if !self.server.admits(&from, now) {
            self.dropped += 1;
            return;
        }
        let envelope = Envelope { from, transaction: packet.transaction, len };
        let reply = match &packet.body {
            Body::Query(asked) => match asked.query {
                Query::DialBack { port, token: Some(token) } if !self.realm.is_mainline() => {
                    let asker = Contact { id: asked.sender, addr: from };
                    let tried = self.handle_dial_question(asker, port, token, envelope, via, now);
                    tried.err().and_then(|refusal| self.server.refuse(refusal, envelope, now))
                }
                _ => self.server.handle_query(asked, envelope, &self.tables, now),
            },
            Body::Refused(refusal) => self.server.refuse(*refusal, envelope, now),
            Body::Reply(_) | Body::Error => None,
        };
        if let Some(datagram) = reply {
            self.queries_in += 1;
            self.outputs.push_back(Output::Transmit(Transmit { to: from, via: Some(via), datagram }));
        }
        if let Body::Query(asked) = &packet.body
            && !asked.read_only
        {
            self.check(Contact { id: asked.sender, addr: from }, now);
        }
    }
}
