//! Clients match on these texts, so a change of any must be seen by somebody.

use quorate_api::Error;

#[test]
fn codes_and_texts_are_etcds() {
    let table: String = Error::ALL
        .iter()
        .map(|error| format!("{:<18} {:>2}  {error}\n", error.code().name(), error.code() as u8))
        .collect();
    assert_eq!(table, include_str!("error_texts.txt"));
}
