//! The local API's description: OpenAPI 3.1, made from the types that are answered. `etc/openapi.json` is the same text.

use utoipa::OpenApi;

use super::routes;

/// What is described.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "apt-huddle",
        description = "What the daemon on this host does. Read only; answered to this host, and to the networks in `allow` in section [proxy]."
    ),
    paths(routes::status, routes::peers, routes::why, routes::look_up)
)]
struct Api;

/// The description, as JSON.
pub fn text() -> String {
    Api::openapi().to_pretty_json().expect("a description is JSON") + "\n"
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the file that is compared")]
mod tests {
    use super::*;

    #[test]
    fn the_description_in_etc_is_the_one_that_is_answered() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/etc/openapi.json");
        let kept = std::fs::read_to_string(file).unwrap_or_default();
        assert!(kept == text(), "{file} is not what /api/v1/openapi.json answers: save that answer there");
    }
}
