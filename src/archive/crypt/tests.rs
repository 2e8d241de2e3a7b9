use std::io::Read;

use proptest::prelude::*;

use super::*;

const CHUNK_BYTES: usize = 64 << 10;

fn key() -> x25519::Identity {
    x25519::Identity::generate()
}

fn recipients(keys: &[&x25519::Identity]) -> Recipients {
    Recipients::parse(&keys.iter().map(|key| key.to_public().to_string()).collect::<Vec<_>>()).unwrap()
}

fn identities(keys: &[&x25519::Identity]) -> Identities {
    let lines: Vec<String> = keys.iter().map(|key| key.to_string().expose_secret().to_owned()).collect();
    Identities::parse(&format!("# made by a test\n\n{}\n", lines.join("\n")).into()).unwrap()
}

fn encrypt(to: &Recipients, pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut encrypter = Encrypter::new(to, Vec::new()).unwrap();
    let mut out = Vec::new();
    for piece in pieces {
        encrypter.write(piece).unwrap();
        assert!(encrypter.pending_bytes() + out.len() <= pieces.concat().len() * 2 + 1000);
        out.extend(encrypter.take());
    }
    out.extend(encrypter.finish().unwrap());
    out
}

fn decrypt(with: &Identities, to: &Recipients, age: &[u8], clear: &[u8], step: usize) -> Result<Vec<u8>, OpenError> {
    let (age_blake3, blake3) = (Digest::of(age), Digest::of(&[age, clear].concat()));
    decrypt_against(with, to, &[age, clear].concat(), age.len(), Some(&age_blake3), Some(&blake3), step)
}

fn decrypt_against(
    with: &Identities,
    to: &Recipients,
    object: &[u8],
    age_bytes: usize,
    age_blake3: Option<&str>,
    blake3: Option<&str>,
    step: usize,
) -> Result<Vec<u8>, OpenError> {
    let pieces: Vec<_> = object.chunks(step).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let names = to.names();
    let locked = Locked { key: "k", recipients: &names, age_bytes: age_bytes as u64, age_blake3, blake3 };
    futures::executor::block_on(async {
        let stream = open(with, locked, futures::stream::iter(pieces).boxed()).await?;
        let pieces: Vec<Bytes> = stream.try_collect().await?;
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
        Ok(pieces.concat())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn bytes_come_back_to_each_recipient_and_to_ages_own_reader(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..150_000), 0..4),
        clear in prop::collection::vec(any::<u8>(), 0..300), step in 1usize..200_000
    ) {
        let (one, two, other) = (key(), key(), key());
        let to = recipients(&[&one, &two]);
        let (raw, age) = (pieces.concat(), encrypt(&to, &pieces));
        prop_assert_eq!(&decrypt(&identities(&[&one]), &to, &age, &clear, step).unwrap(), &raw);
        prop_assert_eq!(&decrypt(&identities(&[&other, &two]), &to, &age, &clear, step).unwrap(), &raw);
        let mut stock = Vec::new();
        let reader = age::Decryptor::new_buffered(&age[..]).unwrap().decrypt([&two as &dyn age::Identity].into_iter());
        Read::read_to_end(&mut reader.unwrap(), &mut stock).unwrap();
        prop_assert_eq!(&stock, &raw);
    }

    #[test]
    fn no_flipped_or_missing_byte_goes_unnoticed_whatever_the_checksums_say(
        len in 0usize..200_000, at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>()
    ) {
        let one = key();
        let (to, with) = (recipients(&[&one]), identities(&[&one]));
        let mut age = encrypt(&to, &[vec![7; len]]);
        let at = at.index(age.len());
        if cut { age.truncate(at) } else { age[at] ^= 1 << bit }
        match decrypt_against(&with, &to, &age, age.len(), None, None, 70_000) {
            Err(OpenError::Damaged { problem }) => prop_assert!(!problem.is_empty()),
            // The header's own words for a stanza that nobody knows may change; its MAC covers them.
            other => prop_assert!(false, "{:?}", other.map(|bytes| bytes.len())),
        }
    }

    #[test]
    fn no_bytes_make_opening_panic(head in prop::collection::vec(any::<u8>(), 0..400), magic in any::<bool>()) {
        let one = key();
        let (to, with) = (recipients(&[&one]), identities(&[&one]));
        let object = if magic { [&b"age-encryption.org/v1\n-> X25519 "[..], &head].concat() } else { head };
        prop_assert!(try_header(&with, "k", &to.names(), &object).is_err());
        prop_assert!(decrypt_against(&with, &to, &object, object.len(), None, None, 7).is_err());
    }
}

#[test]
fn objects_that_end_with_a_chunk_are_whole_too() {
    let one = key();
    let (to, with) = (recipients(&[&one]), identities(&[&one]));
    for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES] {
        let age = encrypt(&to, &[vec![7; len]]);
        for clear in [&b""[..], b"clear"] {
            assert_eq!(decrypt(&with, &to, &age, clear, 100).unwrap(), vec![7; len], "{len}");
        }
    }
}

#[test]
fn what_follows_in_clear_is_checked_too_and_checksums_need_no_identity() {
    let one = key();
    let (to, with) = (recipients(&[&one]), identities(&[&one]));
    let age = encrypt(&to, &[vec![7; 100_000]]);
    let (object, changed) = ([&age[..], b"clear"].concat(), [&age[..], b"cleaR"].concat());
    let (age_blake3, blake3) = (Digest::of(&age), Digest::of(&object));
    let damaged = decrypt_against(&with, &to, &changed, age.len(), Some(&age_blake3), Some(&blake3), 1000);
    assert!(matches!(damaged, Err(OpenError::Damaged { .. })));
    let check = |object: &[u8], blake3: Option<&str>| {
        let pieces: Vec<_> = object.chunks(333).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let age_bytes = age.len() as u64;
        let locked = Locked { key: "k", recipients: &[], age_bytes, age_blake3: Some(&age_blake3), blake3 };
        futures::executor::block_on(verify(&locked, futures::stream::iter(pieces).boxed()))
    };
    assert_eq!(check(&object, None).unwrap(), blake3);
    assert_eq!(check(&changed, None).unwrap(), Digest::of(&changed));
    assert!(check(&changed, Some(&blake3)).is_err());
    let mut flipped = object.clone();
    flipped[5000] ^= 1;
    for damaged in [&flipped[..], &object[..age.len() - 1], &object[1..]] {
        assert!(matches!(check(damaged, None), Err(OpenError::Damaged { .. })));
    }
}

#[test]
fn whom_an_object_is_for_is_told_and_no_secret_is() {
    let (one, two, other) = (key(), key(), key());
    let to = recipients(&[&one, &two]);
    let age = encrypt(&to, &[b"abc".to_vec()]);
    let missing = decrypt(&Identities::default(), &to, &age, b"", 9).unwrap_err().to_string();
    let wrong = decrypt(&identities(&[&other]), &to, &age, b"", 9).unwrap_err().to_string();
    for public in [one.to_public().to_string(), two.to_public().to_string()] {
        assert!(missing.contains(&public) && wrong.contains(&public), "{missing} {wrong}");
    }
    assert!(wrong.contains(&other.to_public().to_string()));
    let all = format!("{missing}{wrong}{:?}{:?}", identities(&[&one]), to);
    assert!(!all.contains("AGE-SECRET-KEY"), "{all}");
    assert!(matches!(try_header(&identities(&[&two]), "k", &to.names(), &age), Ok(())));
    // The archive says that it is for `other`, and it is not: that is damage, not somebody's mistake.
    let lie = recipients(&[&other]);
    let damaged = decrypt(&identities(&[&other]), &lie, &age, b"", 9);
    assert!(matches!(damaged, Err(OpenError::Damaged { .. })));
}

#[test]
fn keys_are_read_as_the_stock_tool_writes_them_and_nothing_else_is() {
    for text in [
        "",
        "age1",
        "ssh-ed25519 AAAA",
        "AGE-SECRET-KEY-1",
        "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t",
    ] {
        let error = Recipients::parse(&[text.to_owned()]).unwrap_err().to_string();
        assert!(error.contains("age-keygen"), "{error}");
    }
    let public = key().to_public().to_string();
    assert_eq!(public.len(), 62);
    let mut typo = public.clone();
    typo.replace_range(20..21, if &public[20..21] == "q" { "p" } else { "q" });
    assert!(Recipients::parse(&[typo]).is_err());
    let read = |text: &str| Identities::parse(&text.to_owned().into()).map(drop).unwrap_err().to_string();
    assert!(read("# nothing\n").contains("no age identity"));
    let secret = key().to_string().expose_secret().to_owned();
    let error = read(&format!("# one\n{secret}\n{}x\n", secret));
    assert!(error.contains("line 3") && !error.contains(&secret[20..]), "{error}");
}
