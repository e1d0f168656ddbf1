//! The mirrors that promise one file, and which of them is asked next.
//!
//! The first is the one that the client named; the others are further mirrors of the same repository, which promise the same
//! hash. One is asked at a time. When it fails, or is so slow that nothing is lost by it, the next that has not failed yet
//! goes on from where it stood. When all have failed once, the one that failed least is tried again, with the plan's pauses.
//!
//! **Parts of one file.** What a mirror sends in several parts must be one version of the file: its later answers are
//! compared with the first by `Last-Modified` and `ETag` (RFC 9110, section 8.8). One of them that is the same is enough:
//! behind one name there are often several hosts whose entity tags differ. Across mirrors only the hash can tell.

use crate::archive::Location;

/// Mirrors of one file at most.
pub const MAX_ROUTES: usize = 4;

/// The mirrors of one file.
#[derive(Debug, Clone)]
pub struct Routes {
    routes: Vec<Route>,
    current: usize,
}

#[derive(Debug, Clone)]
struct Route {
    location: Location,
    version: Option<Version>,
    failures: u32,
    /// It has not what was promised, so there is no use in asking again.
    gone: bool,
}

/// How a mirror names the version of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version {
    /// `Last-Modified`.
    pub last_modified: Option<String>,
    /// `ETag`.
    pub etag: Option<String>,
}

impl Version {
    /// Whether two answers may be parts of one file.
    fn may_be(&self, other: &Self) -> bool {
        let same = |a: &Option<String>, b: &Option<String>| Some(a.as_ref()? == b.as_ref()?);
        let both = [same(&self.last_modified, &other.last_modified), same(&self.etag, &other.etag)];
        both.contains(&Some(true)) || !both.contains(&Some(false))
    }

    /// The value of `If-Range`: a weak tag does not do (RFC 9110, section 13.1.5).
    fn if_range(&self) -> Option<&str> {
        let strong = self.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
        self.last_modified.as_deref().or(strong)
    }
}

impl Routes {
    /// The mirror that the client named, and others.
    pub fn new(location: Location, others: impl IntoIterator<Item = Location>) -> Self {
        let fresh = |location| Route { location, version: None, failures: 0, gone: false };
        let others = others.into_iter().filter(|other| *other != location).collect::<Vec<_>>();
        let routes = [location].into_iter().chain(others).take(MAX_ROUTES).map(fresh).collect();
        Self { routes, current: 0 }
    }

    /// Where the file is to be asked for.
    pub fn location(&self) -> &Location {
        &self.routes[self.current].location
    }

    /// The condition under which a part of it may come: that it is of the version of the parts before.
    pub fn if_range(&self) -> Option<&str> {
        self.routes[self.current].version.as_ref()?.if_range()
    }

    /// Whether another mirror has not failed yet.
    pub fn has_other(&self) -> bool {
        self.next_fresh(|_| true).is_some()
    }

    /// Whether every mirror has said that it has not what was promised.
    pub fn all_gone(&self) -> bool {
        self.routes.iter().all(|route| route.gone)
    }

    /// Goes to another mirror before anything is asked, if this one is to be shunned and another is not.
    pub fn avoid(&mut self, is_shunned: impl Fn(&Location) -> bool) {
        if is_shunned(self.location())
            && let Some(next) = self.next_fresh(|location| !is_shunned(location))
        {
            self.current = next;
        }
    }

    /// The mirror answered with a part or the whole of this version. `false` when earlier parts were of another.
    pub fn handle_version(&mut self, version: Version) -> bool {
        let known = &mut self.routes[self.current].version;
        let same = known.as_ref().is_none_or(|known| known.may_be(&version));
        *known = Some(version);
        same
    }

    /// The mirror failed, for good (`gone`) or not. Whether another one is to go on at once.
    pub fn handle_failed(&mut self, gone: bool) -> bool {
        let route = &mut self.routes[self.current];
        route.failures += 1;
        route.gone |= gone;
        let fresh = self.next_fresh(|_| true);
        let least = || (0..self.routes.len()).min_by_key(|at| (self.routes[*at].gone, self.routes[*at].failures));
        self.current = fresh.or_else(least).expect("there is one route at least");
        fresh.is_some()
    }

    fn next_fresh(&self, wanted: impl Fn(&Location) -> bool) -> Option<usize> {
        let is_fresh = |at: &usize| {
            let route = &self.routes[*at];
            *at != self.current && route.failures == 0 && !route.gone && wanted(&route.location)
        };
        (0..self.routes.len()).find(is_fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str) -> Location {
        Location::parse(&format!("http://{host}/debian/pool/a.deb")).expect("a URL")
    }

    fn routes(hosts: &[&str]) -> Routes {
        let mut locations = hosts.iter().map(|host| at(host));
        Routes::new(locations.next().expect("one"), locations)
    }

    fn version(last_modified: &str, etag: &str) -> Version {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Version { last_modified: text(last_modified), etag: text(etag) }
    }

    #[test]
    fn each_mirror_has_its_turn_then_the_one_that_failed_least_and_is_not_gone() {
        let mut three = routes(&["a", "b", "c"]);
        assert!(three.has_other() && three.location().host() == "a");
        assert!(three.handle_failed(true) && three.location().host() == "b");
        assert!(three.handle_failed(false) && three.location().host() == "c");
        assert!(!three.has_other());
        assert!(!three.handle_failed(false) && three.location().host() == "b");
        assert!(!three.handle_failed(false) && three.location().host() == "c");
        assert!(!three.handle_failed(true) && three.location().host() == "b" && !three.all_gone());
        assert!(!three.handle_failed(true) && three.all_gone());
        let mut one = routes(&["a"]);
        assert!(!one.has_other() && !one.handle_failed(false) && one.location().host() == "a");
    }

    #[test]
    fn one_that_is_shunned_is_passed_by_while_another_is_not() {
        let mut two = routes(&["a", "b"]);
        two.avoid(|_| true);
        assert_eq!(two.location().host(), "a");
        two.avoid(|location| location.host() == "a");
        assert_eq!(two.location().host(), "b");
        two.avoid(|location| location.host() == "b");
        assert_eq!(two.location().host(), "a", "it has not failed");
        let many = routes(&["a", "a", "b", "c", "d", "e", "f"]);
        assert_eq!(many.routes.len(), MAX_ROUTES);
    }

    #[test]
    fn parts_are_of_one_version_when_a_validator_says_so_or_none_denies_it() {
        let cases = [
            (("Mon", "\"1\""), ("Mon", "\"1\""), true),
            (("Mon", "\"1\""), ("Mon", "\"2\""), true),
            (("Mon", "\"1\""), ("Tue", "\"1\""), true),
            (("Mon", "\"1\""), ("Tue", "\"2\""), false),
            (("Mon", ""), ("Tue", "\"2\""), false),
            (("", "\"1\""), ("", "\"2\""), false),
            (("Mon", ""), ("", "\"2\""), true),
            (("", ""), ("Mon", "\"2\""), true),
        ];
        for (first, second, same) in cases {
            let mut routes = routes(&["a"]);
            assert!(routes.handle_version(version(first.0, first.1)));
            assert_eq!(routes.handle_version(version(second.0, second.1)), same, "{first:?} {second:?}");
            assert!(routes.handle_version(version(second.0, second.1)), "from then on it is the version");
        }
        let mut changing = routes(&["a"]);
        assert_eq!(changing.if_range(), None);
        changing.handle_version(version("", "W/\"1\""));
        assert_eq!(changing.if_range(), None);
        changing.handle_version(version("", "\"1\""));
        assert_eq!(changing.if_range(), Some("\"1\""));
        changing.handle_version(version("Mon", "\"1\""));
        assert_eq!(changing.if_range(), Some("Mon"));
    }
}
