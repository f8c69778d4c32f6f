//! Bank accounts: `transfer` of an amount between two, and `read` of all balances as a map.
//!
//! Transfers move money and make none, so every read must show the same accounts with the same sum. The sum is
//! the first read's unless it is given. Balances below zero count only if asked. Source: Jepsen's
//! `tests/bank`.

use std::collections::BTreeMap;

use super::{NamedHistory, done, invalid, unexpected};
use crate::format::jepsen::plain_text;
use crate::value::Value;
use crate::verdict::Verdict;

/// Judges accounts.
pub fn bank(history: &NamedHistory, total: Option<i64>, may_be_negative: bool) -> Result<Verdict, String> {
    let mut first: Option<(usize, BTreeMap<String, i128>)> = None;
    for (index, operation, value) in done(history, "read") {
        let Some(balances) = balances(index, value)? else { continue };
        if balances.is_empty() {
            continue;
        }
        let (reference, expected) = first.get_or_insert_with(|| (index, balances.clone()));
        let shown: Vec<usize> = [index, *reference].into_iter().collect();
        let who = |what: String| format!("process {} {what}", operation.process);
        if let Some(account) = differing(&balances, expected) {
            let sentence = who(format!("read account {account} in one of two reads only"));
            return Ok(invalid("bank-accounts", shown, sentence));
        }
        let wanted = total.map_or_else(|| expected.values().sum(), i128::from);
        let sum: i128 = balances.values().sum();
        if sum != wanted {
            let sentence = who(format!("read balances with the sum {sum}, but there is {wanted} in all"));
            // A sum that is given needs no second read to compare with.
            let shown = if total.is_some() { vec![index] } else { shown };
            return Ok(invalid("bank-total", shown, sentence));
        }
        if let Some((account, balance)) =
            balances.iter().find(|(_, balance)| **balance < 0 && !may_be_negative)
        {
            let sentence = who(format!("read {balance} from account {account}"));
            return Ok(invalid("bank-negative", [index], sentence));
        }
    }
    Ok(Verdict::Valid)
}

fn balances(index: usize, value: &Value) -> Result<Option<BTreeMap<String, i128>>, String> {
    let entries = match value {
        Value::Map(entries) => entries,
        Value::Nil => return Ok(None),
        other => return Err(unexpected(index, "a map of balances", other)),
    };
    let mut balances = BTreeMap::new();
    for (account, balance) in entries {
        let Value::Int(balance) = balance else {
            return Err(unexpected(index, "a number for every account", balance));
        };
        balances.insert(plain_text(account), i128::from(*balance));
    }
    Ok(Some(balances))
}

/// An account that one of the reads does not show.
fn differing<'r>(one: &'r BTreeMap<String, i128>, other: &'r BTreeMap<String, i128>) -> Option<&'r str> {
    let missing = one.keys().find(|account| !other.contains_key(*account));
    missing.or_else(|| other.keys().find(|account| !one.contains_key(*account))).map(String::as_str)
}
