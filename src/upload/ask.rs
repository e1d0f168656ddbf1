//! What a peer asks for: the path of a request.

use crate::hash::ContentHash;

/// A request that may have an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// `/~/<sha256>`
    File(ContentHash),
    /// `/~/<sha256>/pieces`
    Pieces(ContentHash),
    /// `/~/have`
    Have,
}

impl Ask {
    /// Reads a path as it stands in the request line; `%7E` is how some clients write the tilde.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/~/").or_else(|| path.strip_prefix("/%7E/"))?;
        match rest.split_once('/') {
            None if rest == "have" => Some(Self::Have),
            None => Some(Self::File(rest.parse().ok()?)),
            Some((hash, "pieces")) => Some(Self::Pieces(hash.parse().ok()?)),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_three_paths_are_questions() {
        let hash = ContentHash::of(b"x");
        assert_eq!(Ask::parse(&format!("/~/{hash}")), Some(Ask::File(hash)));
        assert_eq!(Ask::parse(&format!("/%7E/{hash}/pieces")), Some(Ask::Pieces(hash)));
        assert_eq!(Ask::parse("/~/have"), Some(Ask::Have));
        for other in ["", "/", "/~/have/", "/~/have/pieces", "/~/Have", "/~", "/~/", "/~/abc", "/~//pieces", "~/"] {
            assert_eq!(Ask::parse(other), None, "{other}");
        }
        for other in [format!("/~/{hash}/"), format!("/~/{hash}/pieces/"), format!("/~/{hash}0"), format!("//~/{hash}")]
        {
            assert_eq!(Ask::parse(&other), None, "{other}");
        }
    }
}
