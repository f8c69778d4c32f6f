//! Who a member is: ids made from URLs, exactly as etcd makes them, so that tools that compute them agree.

use sha1::{Digest, Sha1};

use super::url::Url;

/// A member's id: the first eight bytes of the SHA-1 of its sorted peer URLs and the cluster's token.
#[must_use]
pub fn member_id(peer_urls: &[Url], token: &str) -> u64 {
    let mut urls: Vec<String> = peer_urls.iter().map(Url::to_string).collect();
    urls.sort();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url.as_bytes());
    }
    hash.update(token.as_bytes());
    first_eight_bytes(&hash.finalize())
}

/// A cluster's id: the same of its members' sorted ids.
#[must_use]
pub fn cluster_id(members: &[u64]) -> u64 {
    let mut members = members.to_vec();
    members.sort_unstable();
    let mut hash = Sha1::new();
    for member in members {
        hash.update(member.to_be_bytes());
    }
    first_eight_bytes(&hash.finalize())
}

fn first_eight_bytes(digest: &[u8]) -> u64 {
    digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids that every etcd started without flags has.
    #[test]
    fn ids_equal_those_of_etcd() {
        let member = member_id(&[Url::parse("http://localhost:2380").unwrap()], "etcd-cluster");
        assert_eq!(member, 0x8e9e_05c5_2164_694d);
        assert_eq!(cluster_id(&[member]), 0xcdf8_1819_4e3a_8c32);
    }
}
