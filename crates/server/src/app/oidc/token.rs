//! The signed token that says who somebody is: believed only if all of it is as it must be.

use jsonwebtoken::{
    Algorithm, DecodingKey, Header, Validation, decode, decode_header,
    errors::ErrorKind,
    get_current_timestamp,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// How far the provider's clock and ours may be apart, in seconds.
const LEEWAY: u64 = 60;

/// What a token must say.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
}

/// Why a token is not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    /// None of the keys signed it.
    #[error("its token is signed with none of its keys")]
    UnknownKey,
    /// Another reason.
    #[error("its token {0}")]
    Token(&'static str),
}

/// What `token` says, if one of `keys` signed it for us, for this sign-in, and it holds now.
pub(super) fn verify(
    token: &str,
    keys: &[Jwk],
    expected: &Expected<'_>,
) -> Result<Map<String, Value>, Wrong> {
    let header = decode_header(token)
        .map_err(|_| Wrong::Token("cannot be read, or is not signed in a way that is accepted here"))?;
    if header.crit.is_some() {
        return Err(Wrong::Token("demands what is not known here (`crit`)"));
    }
    if matches!(header.alg, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
        return Err(Wrong::Token("is signed with a shared secret, which is not accepted here"));
    }
    let mut validation = Validation::new(header.alg);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.set_audience(&[expected.client_id]);
    validation.set_issuer(&[expected.issuer]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    for key in keys.iter().filter(|key| fits(key, &header)) {
        let Ok(key) = DecodingKey::from_jwk(key) else { continue };
        match decode::<Map<String, Value>>(token, &key, &validation) {
            Ok(decoded) => return ours(decoded.claims, expected),
            Err(error) => match error.kind() {
                ErrorKind::InvalidSignature => {}
                kind => return Err(Wrong::Token(why(kind))),
            },
        }
    }
    Err(Wrong::UnknownKey)
}

/// What the library does not look at.
fn ours(claims: Map<String, Value>, expected: &Expected<'_>) -> Result<Map<String, Value>, Wrong> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err(Wrong::Token("comes from another provider (`iss`)"));
    }
    // Meant for several, it must say that it was made for us.
    let several = claims.get("aud").and_then(Value::as_array).is_some_and(|aud| aud.len() > 1);
    let party = claims.get("azp");
    if (several || party.is_some()) && party.and_then(Value::as_str) != Some(expected.client_id) {
        return Err(Wrong::Token("was made for somebody else (`azp`)"));
    }
    // It may be a number with decimals.
    let made = claims.get("iat").and_then(Value::as_f64);
    if made.is_none_or(|made| made > (get_current_timestamp() + LEEWAY) as f64) {
        return Err(Wrong::Token(
            "does not say when it was made (`iat`), or in the future; are both clocks right?",
        ));
    }
    let nonce = text("nonce").ok_or(Wrong::Token("does not say which sign-in it belongs to (`nonce`)"))?;
    // Hashed, so that comparing takes as long whatever is sent.
    if Sha256::digest(nonce) != Sha256::digest(expected.nonce) {
        return Err(Wrong::Token("belongs to another sign-in (`nonce`)"));
    }
    Ok(claims)
}

/// Whether `key` may have made a signature as `header` says.
fn fits(key: &Jwk, header: &Header) -> bool {
    let common = &key.common;
    let of_its_kind = match header.alg {
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => matches!(&key.algorithm, AlgorithmParameters::RSA(_)),
        Algorithm::ES256 => is_on(key, &EllipticCurve::P256),
        Algorithm::ES384 => is_on(key, &EllipticCurve::P384),
        Algorithm::EdDSA => is_on(key, &EllipticCurve::Ed25519),
        _ => false,
    };
    of_its_kind
        && header.kid.as_ref().is_none_or(|kid| common.key_id.as_ref() == Some(kid))
        && common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature)
        && common.key_operations.as_ref().is_none_or(|allowed| allowed.contains(&KeyOperations::Verify))
        && common.key_algorithm.is_none_or(|alg| Algorithm::try_from(alg).is_ok_and(|alg| alg == header.alg))
}

fn is_on(key: &Jwk, curve: &EllipticCurve) -> bool {
    match &key.algorithm {
        AlgorithmParameters::EllipticCurve(key) => key.curve == *curve,
        AlgorithmParameters::OctetKeyPair(key) => key.curve == *curve,
        _ => false,
    }
}

fn why(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "is over (`exp`); are both clocks right?",
        ErrorKind::ImmatureSignature => "does not hold yet (`nbf`); are both clocks right?",
        ErrorKind::InvalidIssuer => "comes from another provider (`iss`)",
        ErrorKind::InvalidAudience => "was made for somebody else (`aud`); is `client_id` right?",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => {
            "lacks one of `iss`, `sub`, `aud` and `exp`"
        }
        _ => "cannot be read",
    }
}
