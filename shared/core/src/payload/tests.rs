use super::*;

fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).unwrap()
}

fn at(bucket: &str, key: &str) -> ObjectAt {
    ObjectAt::parse(bucket, key).unwrap()
}

#[test]
fn a_tenant_reaches_its_own_prefix_of_the_fleets_bucket_alone() {
    let sources = Sources::parse(Some("fleet"), "").unwrap();
    let key = format!("acme/2026-11/{}", "a".repeat(64));
    let object = at("fleet", &key);
    assert!(sources.open(&tenant("acme"), &object) && sources.open_to_sender(&object, |_| true));
    for other in ["acm", "acme2", "ac", "ACME", "beta", "acme."] {
        assert!(!sources.open(&tenant(other), &object), "{other}");
    }
    for elsewhere in [at("other", &key), at("fleet", "acme"), at("fleet", "x/acme/k"), at("fleet", "/acme/k")]
    {
        assert!(!sources.open(&tenant("acme"), &elsewhere), "{elsewhere}");
    }
}

#[test]
fn a_listed_bucket_opens_wholly_below_a_prefix_or_by_tenant() {
    let sources = Sources::parse(Some("fleet"), "all-of-it, part-of/in/, per-one/in/{tenant}/args/").unwrap();
    let acme = tenant("acme");
    for (bucket, key, open, open_to_some) in [
        ("all-of-it", "any/key", true, true),
        ("part-of", "in/key", true, true),
        ("part-of", "out/key", false, false),
        ("per-one", "in/acme/args/1", true, true),
        ("per-one", "in/beta/args/1", false, true),
        ("per-one", "in/acme/other/1", false, false),
        ("per-one", "in//args/1", false, false),
        ("per-one", "acme/args/1", false, false),
        ("fleet", "beta/2026-11/x", false, true),
        ("unlisted", "acme/x", false, false),
    ] {
        let object = at(bucket, key);
        assert_eq!(
            (sources.open(&acme, &object), sources.open_to_sender(&object, |_| true)),
            (open, open_to_some),
            "{object}"
        );
    }
    assert!(!Sources::default().open(&acme, &at("all-of-it", "k")));
}

#[test]
fn a_payload_source_of_a_wrong_form_is_refused() {
    for wrong in
        ["x", "a b c", "bucket/{tenant}", "bucket/x{tenant}/", "bucket/{user}/", "bucket/{tenant}/{tenant}/"]
    {
        let error = Sources::parse(None, wrong).unwrap_err();
        assert!(error.contains("accepted are BUCKET") && error.contains(wrong), "{error}");
    }
    let error = Sources::parse(Some("fleet"), "fleet/in/").unwrap_err();
    assert!(error.contains("leave it out"), "{error}");
}

#[test]
fn a_key_that_leads_out_of_its_prefix_is_refused() {
    for key in ["acme/../beta/x", "..", "./x", "acme/.", "", "a\u{0}b"] {
        assert_eq!(ObjectAt::parse("bucket", key).unwrap_err().field, "key", "{key:?}");
    }
    assert!(ObjectAt::parse("bucket", "acme/..x/a...b").is_ok());
    for bucket in ["", "ab", "arn:aws:s3:::x", "a/b", "a b c"] {
        assert_eq!(ObjectAt::parse(bucket, "k").unwrap_err().field, "bucket", "{bucket:?}");
    }
}

#[test]
fn a_tenant_of_dots_is_no_path() {
    assert_eq!(tenant_prefix(&tenant("..")), "%2E%2E/");
    assert_eq!(tenant_prefix(&tenant("a.b-c")), "a.b-c/");
}

#[test]
fn a_digest_is_read_in_hex_and_in_base64() {
    let reference = |sha256: &str| ArgumentsRef {
        bucket: "bucket".into(),
        key: "key".into(),
        sha256: sha256.into(),
        bytes: None,
        encoding: Encoding::Identity,
        version_id: None,
    };
    let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let base64 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    for text in [hex, &hex.to_uppercase(), base64, base64.trim_end_matches('=')] {
        assert_eq!(reference(text).object().unwrap().1, hex, "{text}");
    }
    for text in ["", "abc", &hex[1..], &format!("g{}", &hex[1..])] {
        assert_eq!(reference(text).object().unwrap_err().field, "sha256", "{text}");
    }
    let large = ArgumentsRef { bytes: Some(MAX_PAYLOAD_BYTES + 1), ..reference(hex) };
    assert_eq!(large.object().unwrap_err().field, "bytes");
}

#[test]
fn pointers_of_sqs_extended_clients_are_recognised() {
    for class in POINTERS {
        let body = format!(r#" ["{class}",{{"s3BucketName":"bucket","s3Key":"a/b"}}]"#);
        assert_eq!(extended_pointer(&body), Some(Ok(at("bucket", "a/b"))));
        let broken = format!(r#"["{class}",{{"s3BucketName":"bucket"}}]"#);
        assert_eq!(extended_pointer(&broken).unwrap().unwrap_err().field, "target");
    }
    for other in
        ["[]", "[1, 2]", r#"["x", {"s3BucketName":"bucket","s3Key":"k"}]"#, "{}", "", "[", r#"{"v":1}"#]
    {
        assert_eq!(extended_pointer(other), None, "{other}");
    }
}

#[test]
fn a_sender_opens_only_what_a_tenant_of_its_own_may_name() {
    let sources = Sources::parse(Some("own"), "files/{tenant}/,open").unwrap();
    let object = |bucket: &str, key: &str| ObjectAt::parse(bucket, key).unwrap();
    let acme = |named: &Tenant| named.as_str() == "acme" || named.as_str() == "a@b";
    assert!(sources.open_to_sender(&object("own", "acme/in/1"), acme));
    assert!(sources.open_to_sender(&object("own", "a%40b/in/1"), acme));
    assert!(sources.open_to_sender(&object("open", "whatever"), acme));
    assert!(sources.open_to_sender(&object("files", "acme/1"), acme));
    for (bucket, key) in
        [("own", "globex/in/1"), ("own", "globex/acme/1"), ("files", "globex/1"), ("other", "acme/1")]
    {
        assert!(!sources.open_to_sender(&object(bucket, key), acme), "{bucket}/{key}");
    }
    assert!(Sources::parse(None, "imports/in").is_err(), "a prefix is whole parts of a path");
}
