//! What drift costs: `cargo bench -p checkrein-core --bench drift`.
fn main() {}
