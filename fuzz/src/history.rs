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
        ("list_append", seed(b'0', LIST_APPEND)),
        ("transactions_with_options", seed(b'0', CASE)),
        ("sessions", seed(b'0', SESSIONS)),
        ("sessions_by_call", seed(b'0', PLUME)),
        ("sessions_as_json", seed(b'0', DBCOP)),
        ("robustness_operations", seed(b'0', ROBUSTNESS)),
        ("robustness_watch", seed(b'0', ROBUSTNESS_WATCH)),
        ("queue", seed(b'0', QUEUE)),
        ("set_full", seed(b'0', SET)),
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

const LIST_APPEND: &str = r"{:process 0, :type :invoke, :f :txn, :value [[:append 1 1] [:r 2 nil]]}
{:process 1, :type :invoke, :f :txn, :value [[:append 2 1] [:r 1 nil]]}
{:process 0, :type :ok, :f :txn, :value [[:append 1 1] [:r 2 []]]}
{:process 1, :type :ok, :f :txn, :value [[:append 2 1] [:r 1 nil]]}
{:process 2, :type :invoke, :f :txn, :value [[:r 1 nil] [:append 1 2]]}
{:process 2, :type :ok, :f :txn, :value [[:r 1 [1]] [:append 1 2]]}
";

const CASE: &str = r#"{"kind": "rw-register", "options": {"consistency-models": ["serializable"], "wfr-keys?": true,
  "linearizable-keys?": true, "sequential-keys?": true, "transaction-order": {"0": 2, "1": 1}},
 "history": [{"process": 0, "type": "ok", "f": "txn", "value": [["r", "y", 1], ["w", "x", 1], ["w", "y", 2]]},
  {"process": 1, "type": "ok", "f": "txn", "value": [["r", "x", 1], ["r", "y", 1]]}]}
"#;

const SESSIONS: &str = "w 0 1\nw 1 1\n-----\nr 0 2\n=====\nw 0 2\n-----\nr 0 1\nr 1 nil\n";

const PLUME: &str = "w(0,1,0,0)\nw(1,1,0,0)\nr(0,1,1,1)\nr(1,nil,1,1)\nw(0,2,1,2)\n";

const DBCOP: &str = r#"[[{"events":[{"Write":{"variable":1,"version":1}}],"committed":true}],
 [{"events":[{"Read":{"variable":1,"version":null}},{"Read":{"variable":1,"version":1}}],"committed":true}]]
"#;

const ROBUSTNESS: &str = r#"{"ClientId": 0, "Input": {"Type": "range", "Range": {"Start": "k", "End": "", "Limit": 0, "Revision": 0}},
 "Call": 1, "Output": {"Range": {"KVs": null, "Count": 0}, "Revision": 1, "Error": ""}, "Return": 2}
{"ClientId": 0, "Input": {"Type": "txn", "Txn": {"Conditions": null, "OperationsOnSuccess":
 [{"Type": "put-operation", "Put": {"Key": "k", "Value": {"Value": "v"}, "LeaseID": 0}}]}}, "Call": 3,
 "Output": {"Error": "timeout"}, "Return": 4}
"#;

const ROBUSTNESS_WATCH: &str = r#"{"kind": "watch", "config": {"ExpectRevisionUnique": false}, "expectError": "",
 "persistedRequests": [{"Type": "txn", "Txn": {"OperationsOnSuccess":
 [{"Type": "put-operation", "Put": {"Key": "k", "Value": {"Value": "v"}}}]}}],
 "reports": [{"ClientID": 0, "KeyValue": null, "Watch": [{"Request": {"Key": "", "Revision": 2, "WithPrefix": true,
 "WithPrevKV": true}, "Responses": [{"Events": [{"Type": "put-operation", "Key": "k", "Value": {"Value": "v"},
 "Revision": 2, "IsCreate": true, "PrevValue": null}]}, {"IsProgressNotify": true, "Revision": 2}]}]}]}
"#;

const QUEUE: &str = r"{:process 0, :type :invoke, :f :enqueue, :value 1}
{:process 0, :type :ok, :f :enqueue, :value 1}
{:process 1, :type :invoke, :f :dequeue, :value nil}
{:process 1, :type :info, :f :dequeue, :value nil}
{:process 2, :type :invoke, :f :drain, :value nil}
{:process 2, :type :ok, :f :drain, :value [1]}
";

const SET: &str = r"{:process 0, :type :invoke, :f :add, :value 1}
{:process 1, :type :invoke, :f :read, :value nil}
{:process 0, :type :ok, :f :add, :value 1}
{:process 1, :type :ok, :f :read, :value #{1}}
{:process 1, :type :invoke, :f :read, :value nil}
{:process 1, :type :ok, :f :read, :value []}
";
