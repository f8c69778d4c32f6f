//! Histories: text that anybody may have written, in any of the checker's formats.

use quorate_jepsen::Limits;
use quorate_jepsen::format::{self, ReadOptions};
use quorate_jepsen::report::{Settings, judge};

/// Reads a history in whatever format it seems to have, and judges it with little time. The first byte chooses
/// the options.
pub fn history(input: &[u8]) {
    let Some((choice, text)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let options = ReadOptions { independent: choice & 1 != 0, lenient: choice & 2 != 0 };
    let Ok(recording) = format::read(text, None, options) else { return };
    let limits = Limits { configurations: 1_000, bytes: 1 << 20, ..Limits::default() };
    // A history that no model understands is refused in words.
    let _ = judge(&recording, &Settings { limits, ..Settings::default() });
}

/// One small history in each format.
pub(crate) fn history_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let seed = |choice: u8, text: &str| [&[choice], text.as_bytes()].concat();
    vec![
        ("edn", seed(b'0', EDN)),
        ("edn_vector_of_keys", seed(b'1', EDN_INDEPENDENT)),
        ("json", seed(b'0', JSON)),
        ("jepsen_log", seed(b'0', LOG)),
        ("porcupine_kv", seed(b'0', KV)),
        ("lines", seed(b'0', LINES)),
        ("etcd_lines", seed(b'0', ETCD)),
    ]
}

const EDN: &str = r"; a comment
{:process 0, :type :invoke, :f :write, :value 1, :time 10}
{:process :nemesis, :type :info, :f :start, :value #{1 2}}
{:process 1, :type :invoke, :f :read, :value nil}
{:process 0, :type :ok, :f :write, :value 1}
{:process 1, :type :ok, :f :read, :value 1}
{:process 2, :type :invoke, :f :cas, :value [1 2]}
{:process 2, :type :info, :f :cas, :value [1 2], :error :timed-out}
";

const EDN_INDEPENDENT: &str = r#"[#jepsen.history.Op{:index 0, :process 0, :type :invoke, :f :write, :value ["x" 5]}
#_ignored {:index 1, :process 0, :type :ok, :f :write, :value ["x" 5]}]"#;

const JSON: &str = r#"[{"process":0,"type":"invoke","f":"write","value":5},
{"process":0,"type":"ok","f":"write","value":5}]"#;

const LOG: &str = "INFO  jepsen.util - 2\t:invoke\t:cas\t[3 0]
INFO  jepsen.util - 2\t:fail\t:cas\t[3 0]
INFO  jepsen.util - 17   :invoke   :write  4
INFO  jepsen.util - 17   :info   :write  :timed-out
";

const KV: &str = r#"{:process 9, :type :invoke, :f :append, :key "0", :value "x 9 0 y"}
{:process 9, :type :ok, :f :append, :key "0", :value "x 9 0 y"}
{:process 3, :type :invoke, :f :get, :key "0", :value nil}
{:process 3, :type :ok, :f :get, :key "0", :value "x 9 0 y"}
"#;

const LINES: &str = r#"{"process":0,"call":10,"return":25,"f":"write","key":"x","value":5,"output":null}
{"process":1,"call":12,"f":"cas","key":"x","value":[5,6]}
"#;

const ETCD: &str = r#"{"process":0,"call":10,"return":25,"request":{"put":{"key":"k","value":"v"}},"response":{"revision":2,"result":{"Ok":{"put":{}}}}}
{"process":1,"call":30,"request":{"range":{"key":"k"}}}
{"watch":{"process":9,"request":{"key":"k","start_revision":1},"responses":[{"at":40,"revision":2,"events":[{"kv":{"key":"k","value":"v","create_revision":2,"mod_revision":2,"version":1}}]}]}}
"#;
