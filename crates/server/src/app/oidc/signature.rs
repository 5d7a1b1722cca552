//! Signatures of tokens are checked with ring, which does our TLS too: `jsonwebtoken` has no cryptography of its own.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
    signature,
};
use ring::signature as with;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(Error::from(ErrorKind::UnsupportedAlgorithm)),
    verifier_factory: verifier,
    // What makes keys and thumbprints, which nothing here asks for.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Before the first token is read, or reading it would end in a panic.
pub(super) fn install() {
    let _installed_before = PROVIDER.install_default();
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    Ok(Box::new(Verifier { algorithm: *algorithm, key: key.clone() }))
}

struct Verifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for Verifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl signature::Verifier<Vec<u8>> for Verifier {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> Result<(), signature::Error> {
        let rsa = |parameters| match self.key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } if self.key.family() == AlgorithmFamily::Rsa => {
                // Leading zeros, which some providers send, are no part of a number.
                let n = n.iter().position(|b| *b != 0).and_then(|at| n.get(at..)).unwrap_or(n);
                with::RsaPublicKeyComponents { n, e }.verify(parameters, message, signed)
            }
            _ => Err(ring::error::Unspecified),
        };
        let curve = |family, algorithm: &'static dyn with::VerificationAlgorithm| match self.key.kind() {
            DecodingKeyKind::SecretOrDer(bytes) if self.key.family() == family => {
                with::UnparsedPublicKey::new(algorithm, bytes).verify(message, signed)
            }
            _ => Err(ring::error::Unspecified),
        };
        let checked = match self.algorithm {
            Algorithm::RS256 => rsa(&with::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => rsa(&with::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => rsa(&with::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => rsa(&with::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => rsa(&with::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => rsa(&with::RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => curve(AlgorithmFamily::Ec, &with::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => curve(AlgorithmFamily::Ec, &with::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => curve(AlgorithmFamily::Ed, &with::ED25519),
            // A shared secret proves nothing: anybody who has the public key could use that as one.
            _ => Err(ring::error::Unspecified),
        };
        checked.map_err(|_| signature::Error::new())
    }
}
