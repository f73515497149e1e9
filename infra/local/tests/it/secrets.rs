//! Tests of secrets: stored, versioned, found and refused as the SDK expects.
//!
//! **Invariant:** every refusal is seen as the SDK's typed error.

use aws_sdk_secretsmanager::primitives::Blob;

use crate::harness::Local;

async fn read(local: &Local, id: &str) -> Option<String> {
    let got = local.secrets.get_secret_value().secret_id(id).send().await.unwrap();
    got.secret_string().map(str::to_owned)
}

#[tokio::test]
async fn a_secret_is_read_by_name_by_arn_and_by_arn_without_its_end() {
    let local = Local::start().await;
    let made =
        local.secrets.create_secret().name("toolfleet/github").secret_string("s3cret").send().await.unwrap();
    let arn = made.arn().unwrap();
    let (start, end) = arn.rsplit_once('-').unwrap();
    assert_eq!(start, "arn:aws:secretsmanager:us-east-1:000000000000:secret:toolfleet/github");
    assert_eq!(end.len(), 6);
    for id in ["toolfleet/github", arn, start] {
        assert_eq!(read(&local, id).await.as_deref(), Some("s3cret"));
    }
}

#[tokio::test]
async fn a_new_value_becomes_current_and_the_one_before_previous() {
    let local = Local::start().await;
    let first = local.secrets.create_secret().name("s").secret_string("1").send().await.unwrap();
    let second = local.secrets.put_secret_value().secret_id("s").secret_string("2").send().await.unwrap();
    assert_eq!(second.version_stages(), ["AWSCURRENT"]);
    assert_eq!(read(&local, "s").await.as_deref(), Some("2"));
    let get = || local.secrets.get_secret_value().secret_id("s");
    let previous = get().version_stage("AWSPREVIOUS").send().await.unwrap();
    assert_eq!((previous.secret_string(), previous.version_id()), (Some("1"), first.version_id()));
    let by_id = get().version_id(second.version_id().unwrap()).send().await.unwrap();
    assert_eq!(by_id.secret_string(), Some("2"));
    local.secrets.update_secret().secret_id("s").secret_binary(Blob::new([7, 8])).send().await.unwrap();
    assert_eq!(get().send().await.unwrap().secret_binary(), Some(&Blob::new([7, 8])));
    let pending =
        local.secrets.put_secret_value().secret_id("s").secret_string("4").version_stages("AWSPENDING");
    pending.send().await.unwrap();
    assert_eq!(get().version_stage("AWSPENDING").send().await.unwrap().secret_string(), Some("4"));
    assert_eq!(get().send().await.unwrap().secret_binary(), Some(&Blob::new([7, 8])));
    let described = local.secrets.describe_secret().secret_id("s").send().await.unwrap();
    assert_eq!(described.version_ids_to_stages().unwrap().len(), 3);
}

#[tokio::test]
async fn refusals_are_typed() {
    let local = Local::start().await;
    let missing = local.secrets.get_secret_value().secret_id("nobody").send().await.unwrap_err();
    assert!(missing.into_service_error().is_resource_not_found_exception());
    local.secrets.create_secret().name("s").secret_string("1").send().await.unwrap();
    let again = local.secrets.create_secret().name("s").secret_string("1").send().await.unwrap_err();
    assert!(again.into_service_error().is_resource_exists_exception());
    let stage =
        local.secrets.get_secret_value().secret_id("s").version_stage("AWSPENDING").send().await.unwrap_err();
    assert!(stage.into_service_error().is_resource_not_found_exception());
    let put = |value: &str| {
        let put = local.secrets.put_secret_value().secret_id("s").secret_string(value);
        put.client_request_token("0123456789012345678901234567890123").send()
    };
    put("2").await.unwrap();
    put("2").await.unwrap();
    assert!(put("3").await.unwrap_err().into_service_error().is_resource_exists_exception());
    let large =
        local.secrets.put_secret_value().secret_id("s").secret_string("x".repeat(65_537)).send().await;
    assert!(large.unwrap_err().into_service_error().is_invalid_parameter_exception());
}

#[tokio::test]
async fn a_deleted_secret_waits_for_its_end_unless_forced() {
    let local = Local::start().await;
    for name in ["kept", "gone"] {
        local.secrets.create_secret().name(name).secret_string("1").send().await.unwrap();
    }
    let forced = local.secrets.delete_secret().secret_id("gone").force_delete_without_recovery(true);
    forced.send().await.unwrap();
    let missing = local.secrets.get_secret_value().secret_id("gone").send().await.unwrap_err();
    assert!(missing.into_service_error().is_resource_not_found_exception());
    local.secrets.create_secret().name("gone").secret_string("anew").send().await.unwrap();

    local.secrets.delete_secret().secret_id("kept").recovery_window_in_days(7).send().await.unwrap();
    let marked = local.secrets.get_secret_value().secret_id("kept").send().await.unwrap_err();
    assert!(marked.into_service_error().is_invalid_request_exception());
    local.secrets.restore_secret().secret_id("kept").send().await.unwrap();
    assert_eq!(read(&local, "kept").await.as_deref(), Some("1"));
    local.secrets.delete_secret().secret_id("kept").recovery_window_in_days(7).send().await.unwrap();
    local.clock.advance_ms(7 * 86_400_000);
    let missing = local.secrets.describe_secret().secret_id("kept").send().await.unwrap_err();
    assert!(missing.into_service_error().is_resource_not_found_exception());
}

#[tokio::test]
async fn secrets_are_listed_by_prefix_and_page_by_page() {
    let local = Local::start().await;
    for name in ["a/1", "a/2", "a/3", "b/1"] {
        local.secrets.create_secret().name(name).secret_string("1").send().await.unwrap();
    }
    let filter = aws_sdk_secretsmanager::types::Filter::builder()
        .key(aws_sdk_secretsmanager::types::FilterNameStringType::Name)
        .values("a/")
        .build();
    let mut pages = local.secrets.list_secrets().filters(filter).max_results(2).into_paginator().send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        let names = page.secret_list().iter().map(|secret| secret.name().unwrap().to_owned());
        found.push(names.collect::<Vec<_>>());
    }
    assert_eq!(found, [vec!["a/1", "a/2"], vec!["a/3"]]);
}
