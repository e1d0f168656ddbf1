//! What keeps the daemon from starting, in one line with what to do about it.

use std::{io::ErrorKind, net::SocketAddr};

use crate::store::StoreError;

/// A store that cannot be opened.
pub(super) fn of_store(error: &StoreError) -> String {
    const ELSEWHERE: &str = "name another directory as path in section [store]";
    let advice = match error {
        StoreError::InUse(_) => format!("stop that one, or {ELSEWHERE}"),
        StoreError::Later { .. } => format!("run that version again, or {ELSEWHERE}"),
        StoreError::Io { cause, .. } => match cause.kind() {
            ErrorKind::PermissionDenied => format!("give it to the user that runs apt-huddle, or {ELSEWHERE}"),
            ErrorKind::ReadOnlyFilesystem => format!("mount it for writing, or {ELSEWHERE}"),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => format!("make room, or {ELSEWHERE}"),
            _ => ELSEWHERE.to_owned(),
        },
        StoreError::Full | StoreError::Catalogue(_) => ELSEWHERE.to_owned(),
    };
    format!("the store: {error}: {advice}")
}

/// An address that cannot be listened on, which stands in a section.
pub(super) fn of_listening(at: SocketAddr, section: &str, error: &std::io::Error) -> String {
    let why = match error.kind() {
        ErrorKind::AddrInUse => "another program has it, perhaps another apt-huddle",
        ErrorKind::PermissionDenied => "ports below 1024 are for root, or for who has CAP_NET_BIND_SERVICE",
        ErrorKind::AddrNotAvailable => "this host has no such address",
        _ => "the system refuses it",
    };
    format!("cannot listen on {at}: {why}; see listen in section [{section}]: {error}")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn each_trouble_says_what_it_is_and_what_to_do() {
        let of_disk = |kind: ErrorKind| StoreError::Io { path: "/s".into(), cause: io::Error::from(kind) };
        for (error, words) in [
            (StoreError::InUse("/s".into()), ["/s", "another daemon", "stop that one"]),
            (
                StoreError::Later { path: "/s/c".into(), found: 9, known: 6 },
                ["/s/c", "later version", "run that version"],
            ),
            (of_disk(ErrorKind::PermissionDenied), ["/s", "permission denied", "give it to the user"]),
            (of_disk(ErrorKind::ReadOnlyFilesystem), ["/s", "read-only", "mount it for writing"]),
            (of_disk(ErrorKind::StorageFull), ["/s", "no storage space", "make room"]),
            (of_disk(ErrorKind::NotADirectory), ["/s", "not a directory", "[store]"]),
        ] {
            let told = of_store(&error);
            words.iter().for_each(|word| assert!(told.contains(word), "{word:?} in {told}"));
            assert_eq!(told.lines().count(), 1);
        }
        for (kind, word) in [
            (ErrorKind::AddrInUse, "another program"),
            (ErrorKind::PermissionDenied, "1024"),
            (ErrorKind::AddrNotAvailable, "no such address"),
        ] {
            let told = of_listening("127.0.0.1:80".parse().unwrap(), "peer", &io::Error::from(kind));
            assert!(told.contains(word) && told.contains("127.0.0.1:80") && told.contains("[peer]"), "{told}");
        }
    }
}
