//! Without the real histories that `QUORATE_HISTORIES` names, cargo counts the tests that need them as ignored.

fn main() {
    println!("cargo::rerun-if-env-changed=QUORATE_HISTORIES");
    println!("cargo::rustc-check-cfg=cfg(no_histories)");
    if std::env::var_os("QUORATE_HISTORIES").is_none() {
        println!("cargo::rustc-cfg=no_histories");
    }
}
