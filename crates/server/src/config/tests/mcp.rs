use super::super::{check_text, read_mcp};
use secrecy::ExposeSecret as _;
use std::path::Path;

#[test]
fn servers_are_read_with_their_secrets_only_for_who_uses_them() {
    let text = "[mcp.shop]\nurl = 'https://a.example/mcp'\nauthorization = { env = 'SHOP' }\n[mcp.b]\nurl = 'http://b'\n";
    // `serve` needs no secret of theirs.
    check_text(Path::new("c.toml"), text).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    std::fs::write(&file, format!("{text}[nonsense]\n")).unwrap();
    let found = read_mcp(&file, &|name| (name == "SHOP").then(|| "Bearer x".to_owned())).unwrap();
    let (b, shop) = (&found[0], &found[1]);
    assert_eq!((b.name.as_str(), b.url.as_str(), b.authorization.is_none()), ("b", "http://b", true));
    assert_eq!(shop.authorization.as_ref().unwrap().expose_secret(), "Bearer x");
    assert!(read_mcp(&file, &|_| None).unwrap_err().to_string().contains("SHOP is not set"));
    for (wrong, says) in [
        ("[mcp.a]\n", "url: is missing"),
        ("[mcp.a]\nurl = 'a.example'\n", "http://"),
        ("[mcp.a]\nurl = 'http://a'\nheaders = {}\n", "mcp.a.headers"),
        ("[mcp.A__b]\nurl = 'http://a'\n", "a name is 1 to 64"),
        ("[mcp.a]\nurl = 'http://a'\nauthorization = 'Bearer x'\n", "is not written into"),
    ] {
        let problem = check_text(Path::new("c.toml"), wrong).unwrap_err().to_string();
        assert!(problem.contains(says), "{wrong}: {problem}");
    }
}
