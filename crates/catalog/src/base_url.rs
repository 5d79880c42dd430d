//! PURE: which base URLs an operator may set. Whether the address behind it may be reached is the connector's rule.

use url::Url;

use crate::CatalogError;

const FIELD: &str = "base_url";

/// Reads a base URL and refuses whatever could leak a key or surprise a reader: user information, a query, a
/// fragment, and plain `http` unless private addresses are allowed for the provider.
pub(crate) fn parse_base_url(text: &str, allow_private_address: bool) -> Result<Url, CatalogError> {
    let refuse = |problem: &str| Err(CatalogError::invalid(FIELD, problem));
    let Ok(mut url) = Url::parse(text) else {
        return refuse("write an absolute URL such as https://api.example.com/v1");
    };
    match url.scheme() {
        "https" => {}
        "http" if allow_private_address => {}
        "http" => return refuse("use https; plain http is for providers with `allow_private_address` only"),
        _ => return refuse("use https"),
    }
    if !url.has_host() {
        return refuse("name a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("leave user name and password out: keys belong into credentials");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("leave out everything from `?` or `#` on");
    }
    // one spelling per address: no slash at the end
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Scheme, host and port of a base URL: what a credential is bound to.
pub fn origin_of(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_https_and_private_http_only() {
        for (text, private, good) in [
            ("https://api.openai.com/v1", false, true),
            ("http://127.0.0.1:9000", true, true),
            ("http://127.0.0.1:9000", false, false),
            ("ftp://x.example", true, false),
            ("https://", false, false),
            ("api.openai.com", false, false),
            ("https://user@x.example", false, false),
            ("https://:pw@x.example", false, false),
            ("https://x.example/v1?key=1", false, false),
            ("https://x.example/v1#a", false, false),
            ("file:///etc/passwd", true, false),
            ("", true, false),
        ] {
            assert_eq!(parse_base_url(text, private).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn has_one_spelling_and_one_origin() {
        let url = parse_base_url("https://API.example.com:443/v1//", false).unwrap();
        assert_eq!(url.as_str(), "https://api.example.com/v1");
        assert_eq!(origin_of(&url), "https://api.example.com");
        let other = parse_base_url("https://api.example.com:8443/", false).unwrap();
        assert_ne!(origin_of(&url), origin_of(&other));
    }
}
