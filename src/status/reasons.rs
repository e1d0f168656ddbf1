//! Why the mirror brought what nobody else did: closed lists, with words for people.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{fetch, flow};

/// Why a mirror brought something of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MirrorReason {
    /// There is no network.
    Off,
    /// Its repository is not public.
    Private,
    /// Nobody who may be asked has it.
    Nobody,
    /// The mirror was done before anybody was found.
    Sooner,
    /// Who was found could not give it.
    PeersFailed,
    /// The mirror was quicker than those who were found.
    Quicker,
    /// It brought the first bytes, and peers the rest.
    FirstBytes,
    /// The configuration lets it bring what it can.
    Configured,
}

/// Why a file was only passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PassReason {
    /// No archive's signature covers it, as far as is known.
    NotVouched,
    /// It was asked for with a password.
    Password,
    /// Its URL has a query.
    Query,
}

impl MirrorReason {
    pub(super) fn of(reason: fetch::MirrorReason, has_network: bool) -> Self {
        match reason {
            fetch::MirrorReason::Private => Self::Private,
            _ if !has_network => Self::Off,
            fetch::MirrorReason::Nobody => Self::Nobody,
            fetch::MirrorReason::Sooner => Self::Sooner,
            fetch::MirrorReason::PeersFailed => Self::PeersFailed,
            fetch::MirrorReason::Quicker => Self::Quicker,
            fetch::MirrorReason::FirstBytes => Self::FirstBytes,
            fetch::MirrorReason::Configured => Self::Configured,
        }
    }
}

impl fmt::Display for MirrorReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "the network is off",
            Self::Private => "private: nobody else is asked",
            Self::Nobody => "nobody has it",
            Self::Sooner => "done before anybody was found",
            Self::PeersFailed => "who has it could not give it",
            Self::Quicker => "quicker than peers",
            Self::FirstBytes => "the first bytes, so that apt need not wait",
            Self::Configured => "mirror = \"first\"",
        })
    }
}

impl From<flow::usage::Reason> for PassReason {
    fn from(reason: flow::usage::Reason) -> Self {
        match reason {
            flow::usage::Reason::NotVouched => Self::NotVouched,
            flow::usage::Reason::Password => Self::Password,
            flow::usage::Reason::Query => Self::Query,
        }
    }
}

impl fmt::Display for PassReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotVouched => "nobody vouches for it",
            Self::Password => "asked for with a password",
            Self::Query => "its URL has a query",
        })
    }
}
