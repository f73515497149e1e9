//! Tests of S3 objects: stored, found and refused as the SDK expects, and kept by a restart.
//!
//! **Invariant:** every refusal is seen as the SDK's own error code.

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use toolfleet_local::{Clock, LocalEndpoints, LocalOptions};

use crate::harness::{Local, START_MS};

const BUCKET: &str = "toolfleet-payloads-000000000000-us-east-1";

fn client(url: &str) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
        .region(aws_sdk_s3::config::Region::new("eu-central-1"))
        .credentials_provider(aws_sdk_s3::config::Credentials::new("AKIDTEST", "secret", None, None, "test"))
        .endpoint_url(url)
        .force_path_style(true);
    aws_sdk_s3::Client::from_conf(config.build())
}

async fn put(s3: &aws_sdk_s3::Client, key: &str, text: &str) {
    s3.put_object()
        .bucket(BUCKET)
        .key(key)
        .body(ByteStream::from(text.as_bytes().to_vec()))
        .send()
        .await
        .unwrap();
}

async fn read(s3: &aws_sdk_s3::Client, key: &str) -> String {
    let got = s3.get_object().bucket(BUCKET).key(key).send().await.unwrap();
    String::from_utf8(got.body.collect().await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn an_object_is_given_back_with_its_headers_whole_and_in_part() {
    let local = Local::start().await;
    let s3 = client(local.endpoints.s3_url());
    let put = s3
        .put_object()
        .bucket(BUCKET)
        .key("a b/ü+%.json")
        .content_type("application/json")
        .content_encoding("gzip");
    let put = put.metadata("owner", "ann").body(ByteStream::from_static(b"0123456789")).send().await.unwrap();
    let get = || s3.get_object().bucket(BUCKET).key("a b/ü+%.json");
    let whole = get().send().await.unwrap();
    assert_eq!((whole.content_type(), whole.content_encoding()), (Some("application/json"), Some("gzip")));
    assert_eq!((whole.e_tag(), whole.metadata().unwrap()["owner"].as_str()), (put.e_tag(), "ann"));
    assert_eq!(whole.body.collect().await.unwrap().to_vec(), b"0123456789");
    for (range, part) in
        [("bytes=2-4", "234"), ("bytes=8-", "89"), ("bytes=-3", "789"), ("bytes=0-99", "0123456789")]
    {
        let got = get().range(range).send().await.unwrap();
        assert_eq!(got.body.collect().await.unwrap().to_vec(), part.as_bytes(), "{range}");
    }
    assert_eq!(get().range("bytes=10-").send().await.unwrap_err().code(), Some("InvalidRange"));
    let head = s3.head_object().bucket(BUCKET).key("a b/ü+%.json").send().await.unwrap();
    assert_eq!(head.content_length(), Some(10));
    s3.delete_object().bucket(BUCKET).key("a b/ü+%.json").send().await.unwrap();
    assert_eq!(get().send().await.unwrap_err().code(), Some("NoSuchKey"));
    let elsewhere = s3.get_object().bucket("nobodys").key("k").send().await.unwrap_err();
    assert_eq!(elsewhere.code(), Some("NoSuchBucket"));
}

#[tokio::test]
async fn a_put_that_must_not_overwrite_or_has_another_digest_is_refused() {
    let local = Local::start().await;
    let s3 = client(local.endpoints.s3_url());
    let first = || s3.put_object().bucket(BUCKET).key("k").if_none_match("*");
    first().body(ByteStream::from_static(b"one")).send().await.unwrap();
    let again = first().body(ByteStream::from_static(b"two")).send().await.unwrap_err();
    assert_eq!(again.raw_response().unwrap().status().as_u16(), 412);
    assert_eq!(again.code(), Some("PreconditionFailed"));
    assert_eq!(read(&s3, "k").await, "one");
    let wrong = s3.put_object().bucket(BUCKET).key("w").body(ByteStream::from_static(b"one"));
    let wrong =
        wrong.checksum_sha256("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=").send().await.unwrap_err();
    assert_eq!(wrong.code(), Some("BadDigest"));
}

#[tokio::test]
async fn a_listing_tells_prefixes_once_and_goes_on_where_it_ended() {
    let local = Local::start().await;
    let s3 = client(local.endpoints.s3_url());
    for key in ["a/1", "a/2", "b/1", "c", "d&<e"] {
        put(&s3, key, key).await;
    }
    let page = s3.list_objects_v2().bucket(BUCKET).delimiter("/").max_keys(2).send().await.unwrap();
    let prefixes: Vec<_> = page.common_prefixes().iter().filter_map(|p| p.prefix()).collect();
    assert_eq!((prefixes, page.is_truncated()), (vec!["a/", "b/"], Some(true)));
    let rest = s3.list_objects_v2().bucket(BUCKET).delimiter("/");
    let rest = rest.set_continuation_token(page.next_continuation_token).send().await.unwrap();
    let keys: Vec<_> = rest.contents().iter().filter_map(|o| o.key()).collect();
    assert_eq!(
        (keys, rest.common_prefixes().len(), rest.is_truncated()),
        (vec!["c", "d&<e"], 0, Some(false))
    );
    let below = s3.list_objects_v2().bucket(BUCKET).prefix("a/").send().await.unwrap();
    assert_eq!(below.contents().len(), 2);
}

#[tokio::test]
async fn what_is_uploaded_in_parts_is_one_object() {
    let local = Local::start().await;
    let s3 = client(local.endpoints.s3_url());
    let begun = s3.create_multipart_upload().bucket(BUCKET).key("k").send().await.unwrap();
    let id = begun.upload_id().unwrap();
    let mut done = CompletedMultipartUpload::builder();
    for (number, text) in [(2, "two"), (1, "one")] {
        let part = s3.upload_part().bucket(BUCKET).key("k").upload_id(id).part_number(number);
        let part = part.body(ByteStream::from_static(text.as_bytes())).send().await.unwrap();
        done = done.parts(CompletedPart::builder().part_number(number).set_e_tag(part.e_tag).build());
    }
    let complete = s3.complete_multipart_upload().bucket(BUCKET).key("k").upload_id(id);
    complete.multipart_upload(done.build()).send().await.unwrap();
    assert_eq!(read(&s3, "k").await, "onetwo");
}

#[tokio::test]
async fn objects_in_a_directory_survive_a_restart() {
    let directory = std::env::temp_dir().join(format!("toolfleet-s3-{}", uuid::Uuid::new_v4()));
    let start = || {
        let (data_dir, clock) = (Some(directory.clone()), Clock::manual(START_MS));
        LocalEndpoints::start(LocalOptions { data_dir, clock, ..LocalOptions::default() })
    };
    let endpoints = start().await.unwrap();
    let s3 = client(endpoints.s3_url());
    for text in ["first", "second"] {
        put(&s3, "acme/k", text).await;
    }
    put(&s3, "gone", "x").await;
    s3.delete_object().bucket(BUCKET).key("gone").send().await.unwrap();
    endpoints.shutdown().await;
    let endpoints = start().await.unwrap();
    let s3 = client(endpoints.s3_url());
    assert_eq!(read(&s3, "acme/k").await, "second");
    let listed = s3.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    assert_eq!(listed.contents().len(), 1);
    endpoints.shutdown().await;
    std::fs::remove_dir_all(directory).unwrap();
}
