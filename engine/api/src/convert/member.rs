//! Members, as the Cluster service takes and gives them.

use quorate_proto::etcdserverpb as pb;
use quorate_store::Member;

use crate::error::Error;
use crate::url::Url;

/// The URLs at which the others shall reach a member: at least one, in etcd's order.
///
/// etcd's `MemberUpdate` takes any text here, and its members then stop at it: "failed to process URLs".
pub(crate) fn peer_urls(texts: &[String]) -> Result<Vec<String>, Error> {
    let urls: Result<Vec<Url>, _> = texts.iter().map(|text| Url::parse(text)).collect();
    let mut urls: Vec<String> =
        urls.map_err(|_| Error::MemberUrlsInvalid)?.iter().map(Url::to_string).collect();
    urls.sort();
    if urls.is_empty() { Err(Error::MemberUrlsInvalid) } else { Ok(urls) }
}

/// A member as etcd's clients know it.
pub(crate) fn member(member: Member) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.client_urls,
        is_learner: member.learner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_scheme_a_host_and_a_port() {
        let parsed =
            |texts: &[&str]| peer_urls(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
        let sorted = vec!["http://a:1".to_owned(), "http://b:1".to_owned()];
        assert_eq!(parsed(&["http://b:1", " http://a:1 "]), Ok(sorted));
        for wrong in [&[][..], &[""], &["a:1"], &["http://a"], &["http://a:1/"], &["http://a:1", "b"]] {
            assert_eq!(parsed(wrong), Err(Error::MemberUrlsInvalid), "{wrong:?}");
        }
    }
}
