//! The URLs on which a member listens and by which it is reached.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

/// `scheme://host:port`, as etcd takes it: no path, and always a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    scheme: &'static str,
    host: String,
    port: u16,
}

/// Why a text is not such a URL. Texts are etcd's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// Not a scheme of etcd's.
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    /// A scheme of etcd's that this server does not serve yet.
    #[error("URL scheme {0} is not supported by this version of quorate (use http): {1}")]
    Unsupported(&'static str, String),
    /// No host or no port.
    #[error("URL address does not have the form \"host:port\": {0}")]
    HostPort(String),
    /// More than an address.
    #[error("URL must not contain a path: {0}")]
    Path(String),
}

impl Url {
    /// Reads one URL.
    ///
    /// # Errors
    /// When the text is not `http://host:port`.
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or_else(|| UrlError::Scheme(text.to_owned()))?;
        match scheme {
            "http" => {}
            "https" => return Err(UrlError::Unsupported("https", text.to_owned())),
            "unix" => return Err(UrlError::Unsupported("unix", text.to_owned())),
            "unixs" => return Err(UrlError::Unsupported("unixs", text.to_owned())),
            _ => return Err(UrlError::Scheme(text.to_owned())),
        }
        let malformed = || UrlError::HostPort(text.to_owned());
        if rest.contains(['/', '?', '#']) {
            return Err(UrlError::Path(text.to_owned()));
        }
        let (host, port) = rest.rsplit_once(':').ok_or_else(malformed)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(malformed()),
            None if host.contains([':', '[', ']', '@']) || host.contains(char::is_whitespace) => {
                return Err(malformed());
            }
            None => host,
        };
        let port = port.parse().map_err(|_| malformed())?;
        Ok(Url { scheme: "http", host: host.to_owned(), port })
    }

    /// Reads a list separated by commas.
    ///
    /// # Errors
    /// The first that is not a URL.
    pub fn parse_list(text: &str) -> Result<Vec<Url>, UrlError> {
        text.split(',').map(Url::parse).collect()
    }

    /// `host:port`, to resolve and connect or listen.
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether one can listen on it: an address or `localhost`, not some name (etcd's rule).
    #[must_use]
    pub fn can_bind(&self) -> bool {
        self.host == "localhost" || self.host.is_empty() || self.host.parse::<IpAddr>().is_ok()
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether both lead to the same place, as far as the texts tell: `localhost` is 127.0.0.1.
    #[must_use]
    pub fn same_place(&self, other: &Url) -> bool {
        let plain =
            |url: &Url| if url.host == "localhost" { "127.0.0.1".to_owned() } else { url.host.clone() };
        self.port == other.port && plain(self) == plain(other)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.address())
    }
}

/// A list as it is written on the command line.
#[must_use]
pub fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_those_of_etcd() {
        let text = |url| Url::parse(url).unwrap_err().to_string();
        assert_eq!(text("foo"), "URL scheme must be http, https, unix, or unixs: foo");
        assert_eq!(
            text("http://127.0.0.1"),
            "URL address does not have the form \"host:port\": http://127.0.0.1"
        );
        assert_eq!(text("http://127.0.0.1:1/x"), "URL must not contain a path: http://127.0.0.1:1/x");
        assert!(text("https://127.0.0.1:1").contains("not supported"));
        assert!(text("http://a:b:1").contains("host:port"));
        assert!(text("http://h:99999").contains("host:port"));
    }

    #[test]
    fn an_address_keeps_its_brackets() {
        let url = Url::parse("http://[::1]:2379").unwrap();
        assert_eq!((url.to_string().as_str(), url.address().as_str()), ("http://[::1]:2379", "[::1]:2379"));
        assert!(url.can_bind());
        assert!(!Url::parse("http://etcd.example:2379").unwrap().can_bind());
    }
}
