//! OpenAPI documents beside the catalog: at an address, in S3, and where they cannot be read.

use serde_json::{Value, json};
use toolfleet_aws::Tables;
use toolfleet_catalog::Catalog;
use toolfleet_config::catalog::{CatalogConfig, LoadError, Stores, Texts};
use toolfleet_core::ids::ServerId;
use toolfleet_testkit::{EchoFault, EchoHttp};

use crate::payload_requests::{make_bucket, store};
use crate::reload::Folder;
use crate::rig::Rig;

fn document(servers: &str, operation: &str) -> String {
    let paths = json!({"/things": {"get": {"operationId": operation, "responses": {}}}});
    let info = json!({"title": "Things", "version": "1"});
    json!({"openapi": "3.0.4", "info": info, "servers": [{"url": servers}], "paths": paths}).to_string()
}

fn answer(status: u16, header: (&str, &str), body: &str) -> EchoFault {
    EchoFault::status(status, header, body, false)
}

/// The configuration of a catalog with one interface, whose document is at `place`, and one other server.
fn catalog(folder: &Folder, place: &str, more: Value) -> CatalogConfig {
    let mut things = json!({"id": "things", "openapi": place});
    for (name, value) in more.as_object().unwrap() {
        things[name] = value.clone();
    }
    let other = json!({"id": "other", "url": "https://m.example/mcp"});
    folder
        .write(
            "catalog.json",
            json!({"servers": [things, other], "tools": [], "tenants": {"queue": ["acme"]}}),
        )
        .into()
}

async fn read(config: &CatalogConfig, stores: &Stores, refresh: bool) -> Result<Catalog, LoadError> {
    Texts::read(config, stores, refresh).await?.parse()
}

fn things() -> ServerId {
    ServerId::parse("things").unwrap()
}

/// The only operation of the interface.
fn operation(catalog: &Catalog) -> String {
    let refused = || panic!("{:?}", catalog.not_executable_server(&things()));
    let server = catalog.server(&things()).unwrap_or_else(refused);
    server.openapi().unwrap().interface.names().next().unwrap().to_owned()
}

fn why_not(catalog: &Catalog) -> String {
    assert!(catalog.server(&ServerId::parse("other").unwrap()).is_some(), "the rest of the catalog loads");
    catalog.not_executable_server(&things()).expect("it cannot be called").reason.clone()
}

#[tokio::test]
async fn a_document_at_an_address_is_asked_for_seldom_and_never_lost() {
    let (rig, echo, folder) = (Rig::new().await, EchoHttp::start().await, Folder::new("address"));
    let stores = rig.stores(&rig.direct);
    let place = format!("{}/openapi.json?key=hunter2", echo.url());
    let config = catalog(&folder, &place, json!({}));
    echo.next(answer(200, ("etag", "\"one\""), &document("/api", "find")));
    let first = read(&config, &stores, false).await.unwrap();
    assert_eq!(operation(&first), "find");
    let url = &first.server(&things()).unwrap().openapi().unwrap().http.url;
    assert_eq!(url.as_str(), format!("{}/api", echo.url()), "relative to the document");
    let again = read(&config, &stores, false).await.unwrap();
    assert_eq!((again.digest(), echo.requests().len()), (first.digest(), 1), "within five minutes");
    echo.next(answer(304, ("etag", "\"one\""), ""));
    assert_eq!(read(&config, &stores, true).await.unwrap().digest(), first.digest());
    assert_eq!(echo.requests().last().unwrap().header("if-none-match"), Some("\"one\""));
    echo.next(answer(500, ("x", "y"), "no"));
    assert_eq!(read(&config, &stores, true).await.unwrap().digest(), first.digest(), "it was read before");
    echo.next(answer(200, ("x", "y"), &document("/api", "list")));
    assert_eq!(operation(&read(&config, &stores, true).await.unwrap()), "list");
    assert_eq!(echo.requests().len(), 4);
}

#[tokio::test]
async fn a_document_may_be_a_row_of_the_catalogs_table() {
    let (rig, folder) = (Rig::new().await, Folder::new("table"));
    let table = rig.direct.catalogs(&Tables::with_prefix("toolfleet"));
    table.write("things-api", &document("https://h.example/", "find")).await.unwrap();
    let stores = rig.stores(&rig.direct);
    let config = catalog(&folder, "table://things-api", json!({}));
    assert_eq!(operation(&read(&config, &stores, false).await.unwrap()), "find");
}

#[tokio::test]
async fn a_document_that_cannot_be_read_leaves_the_rest_of_the_catalog() {
    let (rig, echo, folder) = (Rig::new().await, EchoHttp::start().await, Folder::new("unread"));
    let address = format!("{}/openapi.json", echo.url());
    let cases: [(&str, Option<EchoFault>, &str); 8] = [
        ("nowhere.yaml", None, "nowhere.yaml: No such file"),
        ("secret://nowhere", None, "cannot be read"),
        ("table://nowhere", None, "has no row `nowhere`"),
        ("s3://no-bucket/openapi.json", None, "cannot be read"),
        ("s3://", None, "names no object; give s3://BUCKET/KEY"),
        (&address, Some(answer(404, ("x", "y"), "no")), "is answered with HTTP status 404"),
        (
            &address,
            Some(answer(302, ("location", "https://other.example/spec"), "")),
            "redirect to https://other.example/spec",
        ),
        ("https://user:hunter2@h.example/spec.json", None, "has a name or a password in its address"),
    ];
    for (place, fault, says) in cases {
        let stores = rig.stores(&rig.direct);
        fault.into_iter().for_each(|fault| echo.next(fault));
        let read = read(&catalog(&folder, place, json!({"url": "https://h.example/"})), &stores, false).await;
        let why = why_not(&read.unwrap_or_else(|error| panic!("{place}: {error}")));
        assert!(why.contains(says), "{place}: {why}");
        assert!(!why.contains("hunter2"), "{why}");
    }
}

#[tokio::test]
async fn a_file_that_is_gone_refuses_a_reload_and_not_a_start() {
    let (rig, folder) = (Rig::new().await, Folder::new("gone"));
    let stores = rig.stores(&rig.direct);
    let config = catalog(&folder, "spec.json", json!({}));
    let path = folder.write("spec.json", document("https://h.example/api", "find"));
    assert_eq!(operation(&read(&config, &stores, false).await.unwrap()), "find");
    std::fs::remove_file(path).unwrap();
    assert!(
        matches!(read(&config, &stores, false).await, Err(LoadError::File { .. })),
        "the catalog in use stays"
    );
    let why = why_not(&read(&config, &rig.stores(&rig.direct), false).await.unwrap());
    assert!(why.contains("spec.json"), "{why}");
}

#[tokio::test]
async fn a_document_in_s3_is_read() {
    let (rig, folder) = (Rig::new().await, Folder::new("s3"));
    make_bucket(&rig, "documents").await;
    store(&rig, "documents", "api/v1.json", document("https://h.example/api", "find")).await;
    let config = catalog(&folder, "s3://documents/api/v1.json", json!({}));
    assert_eq!(operation(&read(&config, &rig.stores(&rig.direct), false).await.unwrap()), "find");
}

#[tokio::test]
async fn a_document_at_an_address_does_not_choose_another_origin() {
    let (rig, echo, folder) = (Rig::new().await, EchoHttp::start().await, Folder::new("origin"));
    let place = format!("{}/openapi.json", echo.url());
    let elsewhere = document("https://evil.example/api", "find");
    echo.next(answer(200, ("x", "y"), &elsewhere));
    let read_now = |more| {
        let (config, stores) = (catalog(&folder, &place, more), rig.stores(&rig.direct));
        async move { read(&config, &stores, false).await.unwrap() }
    };
    let why = why_not(&read_now(json!({})).await);
    assert!(why.contains("describes https://evil.example; set `url`"), "{why}");
    echo.next(answer(200, ("x", "y"), &elsewhere));
    assert_eq!(
        operation(&read_now(json!({"url": "https://evil.example/api"})).await),
        "find",
        "the catalog says so"
    );
}
