//! The tool catalogue: what an action is, told from how it was asked for.
