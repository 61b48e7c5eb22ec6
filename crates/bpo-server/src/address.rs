//! Addresses of servers and proxies: their secrets, and the part of them that may be shown.

use std::net::IpAddr;

use serde::Serializer;
use ureq::http::Uri;

/// The text that replaces a secret of an address in messages and in files.
pub(crate) const REMOVED: &str = "[removed]";

/// Splits an address into scheme (with `://`), authority, and the path, query and fragment.
fn parts(address: &str) -> (&str, &str, &str) {
    let start = address.find("://").map_or(0, |at| at + 3);
    let end = address[start..].find(['/', '?', '#']).map_or(address.len(), |at| start + at);
    (&address[..start], &address[start..end], &address[end..])
}

/// Returns the user with the password of an address, the password alone, and the values of the
/// query.
pub(crate) fn secrets_in(address: &str) -> Vec<String> {
    let mut secrets = Vec::new();
    let (_, authority, _) = parts(address);
    if let Some((user, _)) = authority.rsplit_once('@') {
        let user = decoded(user);
        secrets.extend(user.split_once(':').map(|(_, password)| password.to_owned()));
        secrets.push(user);
    }
    if let Some((_, query)) = address.split_once(['?', '#']) {
        let values =
            query.split(['&', '#']).map(|field| field.split_once('=').map_or(field, |(_, value)| value));
        secrets.extend(values.map(decoded));
    }
    // Texts of one or two characters occur everywhere and are no secrets.
    secrets.retain(|secret| secret.len() > 2);
    secrets
}

/// Decodes `%XX`.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut at, mut decoded) = (0, Vec::new());
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Returns an address without user, password, query and fragment.
///
/// The whole address after the scheme is removed if the port is not a number: a `/`, `?` or `#` in
/// a password that is not percent-encoded ends the authority within the password.
pub(crate) fn shown_address(address: &str) -> String {
    let (scheme, authority, rest) = parts(address);
    let (user, host) = match authority.rsplit_once('@') {
        Some((_, host)) => ("[removed]@", host),
        None => ("", authority),
    };
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    if !host.ends_with(']') && !port.chars().all(|c| c.is_ascii_digit()) {
        return format!("{scheme}{REMOVED}");
    }
    match rest.find(['?', '#']) {
        Some(at) => format!("{scheme}{user}{host}{}?{REMOVED}", &rest[..at]),
        None => format!("{scheme}{user}{host}{rest}"),
    }
}

/// Serializes an address as [`shown_address`] shows it.
pub(crate) fn serialize<S: Serializer>(address: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&shown_address(address))
}

/// Serializes an optional address as [`shown_address`] shows it.
pub(crate) fn serialize_optional<S: Serializer>(
    address: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => serializer.serialize_some(&shown_address(address)),
        None => serializer.serialize_none(),
    }
}

/// Returns whether an address has a host, and a port from 1 to 65535 or none.
pub(crate) fn has_host_and_port(uri: &Uri) -> bool {
    let Some(authority) = uri.authority() else { return false };
    let host = authority.host();
    let place = authority.as_str().rsplit('@').next().unwrap_or_default();
    let port = place.strip_prefix(host).unwrap_or(place);
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    !host.is_empty() && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// Returns whether requests to an address leave this computer unencrypted.
pub(crate) fn is_exposed(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let is_local = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    };
    uri.scheme_str() != Some("https") && !is_local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_addresses_are_found_and_not_shown() {
        let address = "http://me:p%40ssword1@host:80/v1?api=abcdef123456&x=1";
        assert_eq!(secrets_in(address), ["p@ssword1", "me:p@ssword1", "abcdef123456"]);
        for (address, shown) in [
            (address, "http://[removed]@host:80/v1?[removed]"),
            ("http://host/a@b", "http://host/a@b"),
            ("http://host:99999", "http://host:99999"),
            ("http://[::1]:80/v1", "http://[::1]:80/v1"),
            ("http://[::1]", "http://[::1]"),
            ("http://host#secret", "http://host?[removed]"),
            ("http://me:se/cret@host", "http://[removed]"),
            ("http://me:se?cret@host", "http://[removed]"),
            ("me:secret", "[removed]"),
            ("me:secret@host", "[removed]@host"),
            ("", ""),
        ] {
            assert_eq!(shown_address(address), shown);
            assert_eq!(shown_address(shown), shown);
        }
    }

    #[test]
    fn only_https_and_localhost_are_safe() {
        let exposed = |address: &str| is_exposed(&address.parse().unwrap());
        for address in [
            "http://localhost:8080",
            "http://127.0.0.2",
            "http://[::1]:80",
            "https://host",
            "http://a.LOCALHOST",
        ] {
            assert!(!exposed(address), "{address}");
        }
        for address in
            ["http://host", "http://192.168.0.1:80", "http://localhost.org", "http://[2001:db8::1]"]
        {
            assert!(exposed(address), "{address}");
        }
    }

    #[test]
    fn ports_are_numbers_from_1_to_65535() {
        let accepted = |address: &str| address.parse().is_ok_and(|uri| has_host_and_port(&uri));
        for address in
            ["http://host", "http://host:65535/v1", "http://a:b@host:1", "http://[::1]:80", "http://[::1]"]
        {
            assert!(accepted(address), "{address}");
        }
        for address in
            ["http://host:0", "http://host:99999", "http://host:", "http://:80", "http://host:x", "/v1"]
        {
            assert!(!accepted(address), "{address}");
        }
    }
}
