//! Tests of the reader: Petstore whole, and one small document for each rule.

use serde_json::{Value, json};

use super::*;
use crate::schema::{Budget, Verdict};

const TWO: &str = include_str!("../../../tests/openapi/petstore-2.0.yaml");
const THREE: &str = include_str!("../../../tests/openapi/petstore-3.0.yaml");

fn whole(text: &str) -> Document {
    read(text, &ReadOptions::default()).unwrap_or_else(|reason| panic!("{reason}"))
}

/// A document of that version with these paths and other members.
fn document(version: &str, paths: Value, more: Value) -> Value {
    let field = if version == "2.0" { "swagger" } else { "openapi" };
    let mut made =
        json!({field: version, "info": {"title": "t", "version": "1"}, "host": "h.example", "paths": paths});
    made["servers"] = json!([{"url": "https://h.example/v1"}]);
    for (name, value) in more.as_object().unwrap() {
        made[name] = value.clone();
    }
    made
}

fn small(version: &str, paths: Value, more: Value) -> Document {
    whole(&document(version, paths, more).to_string())
}

fn one(document: &Document) -> &Operation {
    assert_eq!(document.operations.len(), 1, "{:?}", document.left_out);
    &document.operations[0]
}

fn named<'a>(document: &'a Document, name: &str) -> &'a Operation {
    document.operations.iter().find(|one| one.name == name).unwrap_or_else(|| panic!("{name}"))
}

/// Whether the operation's schema takes these arguments.
fn takes(operation: &Operation, arguments: Value) -> bool {
    let judge = operation.input_schema().compile().unwrap_or_else(|why| panic!("{why:?}"));
    match judge.judge(&arguments.to_string(), Budget::MOST) {
        Verdict::Fits => true,
        Verdict::Problems(_) => false,
        Verdict::OverBudget => panic!("over budget"),
    }
}

#[test]
fn every_operation_of_petstore_two_is_a_tool_or_has_a_reason() {
    let document = whole(TWO);
    assert_eq!(document.url.as_str(), "https://petstore.swagger.io/v2");
    let names: Vec<_> = document.operations.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "addPet",
            "updatePet",
            "findPetsByStatus",
            "deletePet",
            "getPetById",
            "updatePetWithForm",
            "uploadFile",
            "getInventory",
            "placeOrder",
            "logoutUser",
        ]
    );
    let left: Vec<_> = document.left_out.iter().map(|one| (one.path.as_str(), one.reason.code)).collect();
    assert_eq!(left, [("/user/createWithList", "unsupported_body")]);
    let upload = named(&document, "uploadFile");
    assert!(takes(
        upload,
        json!({"petId": 1, "body": {"file": {"base64": "AA=="}, "additionalMetadata": "x"}})
    ));
    assert!(!takes(upload, json!({"petId": 1, "body": {"file": 7}})));
    assert!(!takes(upload, json!({"body": {}})), "petId is missing");
    assert!(takes(
        named(&document, "addPet"),
        json!({"body": {"name": "a", "photoUrls": [], "tags": [{"id": 1}]}})
    ));
    assert!(!takes(
        named(&document, "addPet"),
        json!({"body": {"name": "a", "photoUrls": [], "tags": [{"id": "1"}]}})
    ));
}

#[test]
fn every_operation_of_petstore_three_is_a_tool() {
    let document = whole(THREE);
    assert_eq!((document.operations.len(), document.left_out.len()), (19, 0), "{:?}", document.left_out);
    assert_eq!(document.url.as_str(), "https://petstore3.swagger.io/api/v3");
    let add = named(&document, "addPet");
    let media: Vec<_> =
        add.body.as_ref().unwrap().media.iter().map(|one| one.content_type.as_str()).collect();
    assert_eq!(media, ["application/json", "application/x-www-form-urlencoded"], "XML is not written");
    assert!(takes(add, json!({"body": {"name": "a", "photoUrls": []}, "content_type": media[1]})));
    assert!(!takes(add, json!({"body": {"name": "a", "photoUrls": []}, "content_type": "application/xml"})));
    let upload = named(&document, "uploadFile");
    assert_eq!(upload.body.as_ref().unwrap().media[0].kind, MediaKind::Bytes);
    assert!(takes(upload, json!({"petId": 1, "additionalMetadata": "m", "body": {"base64": "AAEC"}})));
    assert_eq!(upload.description.as_deref(), Some("Uploads an image.\n\nUpload image of the pet."));
}

#[test]
fn a_cycle_of_schemas_is_a_cycle_of_references() {
    let node = json!({"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Node"}, "v": {"type": "integer"}}});
    let post = json!({"post": {"operationId": "p", "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Node"}}}}}});
    let document = small(
        "3.0.3",
        json!({"/n": post}),
        json!({"components": {"schemas": {"Node": node, "Other": node}}}),
    );
    let operation = one(&document);
    assert!(takes(operation, json!({"body": {"next": {"next": {"v": 1}}}})));
    assert!(!takes(operation, json!({"body": {"next": {"next": {"v": "1"}}}})));
    assert_eq!(
        operation.arguments()["$defs"].as_object().unwrap().len(),
        1,
        "what is not referred to is left out"
    );
}

#[test]
fn a_property_named_ref_is_a_property() {
    let schema = json!({"type": "object", "required": ["$ref"], "properties": {"$ref": {"type": "string"}, "required": {"type": "integer"}}});
    let post = json!({"post": {"requestBody": {"required": true, "content": {"application/json": {"schema": schema}}}}});
    for version in ["3.0.3", "3.1.0"] {
        let document = small(version, json!({"/x": post}), json!({}));
        assert!(takes(one(&document), json!({"body": {"$ref": "refs/heads/main"}})));
        assert!(!takes(one(&document), json!({"body": {"$ref": 7}})));
    }
}

#[test]
fn a_reference_by_the_name_of_the_own_file_is_local() {
    let schema = |of: &str| json!({"$ref": format!("{of}#/components/schemas/Q")});
    let parameter = |of: &str| json!({"name": "q", "in": "query", "required": true, "schema": schema(of)});
    let parts =
        json!({"schemas": {"Q": {"type": "integer"}}, "parameters": {"Q": parameter("./api%20v1.yaml")}});
    let shared = json!({"$ref": "api v1.yaml#/components/parameters/Q"});
    let path = json!({"get": {"parameters": [shared]}, "post": {"parameters": [parameter("api%20v1.yaml")]}});
    let text = document("3.0.3", json!({"/x": path}), json!({"components": parts})).to_string();
    for place in [
        "api v1.yaml",
        "specs/api v1.yaml",
        "https://h.example/api%20v1.yaml",
        r"C:\specs\api v1.yaml",
        "s3://b/k/api v1.yaml",
    ] {
        let document = read(&text, &ReadOptions { place: Some(place.to_owned()), ..ReadOptions::default() });
        let document = document.unwrap();
        assert_eq!((document.operations.len(), document.left_out.as_slice()), (2, [].as_slice()), "{place}");
        assert!(
            document
                .operations
                .iter()
                .all(|one| takes(one, json!({"q": 7})) && !takes(one, json!({"q": "x"})))
        );
    }
    for place in [None, Some("other.yaml"), Some("")] {
        let place = place.map(str::to_owned);
        let document = read(&text, &ReadOptions { place, ..ReadOptions::default() }).unwrap();
        let codes: Vec<_> = document.left_out.iter().map(|one| one.reason.code).collect();
        assert_eq!(codes, ["external_ref", "external_ref"]);
    }
    let text = text.replace("api%20v1.yaml", "api.json").replace("api v1.yaml", "api.json");
    let place = Some("https://h.example/docs/api.json?key=1".to_owned());
    let document = read(&text, &ReadOptions { place, ..ReadOptions::default() }).unwrap();
    assert_eq!(document.operations.len(), 2, "{:?}", document.left_out);
}

#[test]
fn an_operation_that_cannot_be_called_has_a_named_reason() {
    let get = |parameter: Value| json!({"get": {"operationId": "a", "parameters": [parameter]}});
    let post = |content: Value| json!({"post": {"operationId": "a", "requestBody": {"content": content}}});
    let query = |schema: Value| get(json!({"name": "q", "in": "query", "schema": schema}));
    for (path, code) in [
        (query(json!({"$ref": "other.yaml#/Q"})), "external_ref"),
        (get(json!({"$ref": "https://x.example/p.json"})), "external_ref"),
        (json!({"$ref": "./paths/a.yaml"}), "external_ref"),
        (query(json!({"items": {"$ref": "#/components/schemas/None"}})), "broken_ref"),
        (query(json!({"$ref": "#anchor"})), "unsupported_schema"),
        (query(json!({"$dynamicRef": "#node"})), "unsupported_schema"),
        (get(json!({"name": "q", "in": "query", "style": "matrix", "schema": {}})), "unsupported_parameter"),
        (get(json!({"name": "q", "in": "querystring", "content": {}})), "unsupported_parameter"),
        (
            get(json!({"name": "q", "in": "query", "content": {"application/xml": {}}})),
            "unsupported_parameter",
        ),
        (get(json!({"name": "q", "in": "query"})), "invalid"),
        (get(json!({"name": "q"})), "invalid"),
        (post(json!({"application/xml": {"schema": {"type": "object"}}})), "unsupported_body"),
        (post(json!({"multipart/mixed": {}})), "unsupported_body"),
        (json!({"trace": {}}), "unsupported_method"),
        (json!({"get": {"servers": [{"url": "https://up.example"}]}}), "other_server"),
        (json!({"get": []}), "invalid"),
    ] {
        let document = small("3.1.0", json!({"/a": path}), json!({}));
        let codes: Vec<_> = document.left_out.iter().map(|one| one.reason.code).collect();
        assert_eq!((document.operations.len(), codes), (0, vec![code]), "{path} {:?}", document.left_out);
    }
    let document = small("3.1.0", json!({"/a/{b}": {"get": {}}}), json!({}));
    assert_eq!(document.left_out[0].reason.text, "has no path parameter `b`");
    let document =
        small("3.2.0", json!({"/a": {"query": {}, "additionalOperations": {"COPY": {}}}}), json!({}));
    assert_eq!(one(&document).method, Method::Query);
    assert_eq!(document.left_out[0].method, "COPY");
}

#[test]
fn arguments_with_one_name_are_told_apart() {
    let parameter =
        |place: &str| json!({"name": "id", "in": place, "required": true, "schema": {"type": "string"}});
    let body = json!({"name": "body", "in": "query", "schema": {}});
    let list = json!([parameter("header"), parameter("query"), parameter("path"), parameter("cookie"), body]);
    let post = json!({"post": {"parameters": list, "requestBody": {"content": {"text/plain": {}}}}});
    let document = small("3.0.0", json!({"/x/{id}": post}), json!({}));
    let operation = one(&document);
    let names: Vec<_> = operation.parameters.iter().map(|one| one.argument.as_str()).collect();
    assert_eq!(names, ["id", "id_query", "body", "id_header", "id_cookie"]);
    assert_eq!(operation.body.as_ref().unwrap().argument, "body_of_request");
}

#[test]
fn an_operations_parameter_replaces_that_of_its_path() {
    let of = |kind: &str| json!([{"name": "id", "in": "query", "schema": {"type": kind}}]);
    let item = json!({"parameters": of("string"), "get": {"parameters": of("integer")}, "put": {"operationId": "put"}});
    let document = small("3.0.0", json!({"/x": item}), json!({}));
    assert!(
        takes(named(&document, "get_x"), json!({"id": 1}))
            && !takes(named(&document, "get_x"), json!({"id": "1"}))
    );
    assert!(takes(named(&document, "put"), json!({"id": "1"})));
}

#[test]
fn schemas_before_three_one_become_json_schema() {
    let schema = json!({"type": "object", "properties": {
        "n": {"type": "integer", "minimum": 1, "exclusiveMinimum": true, "nullable": true},
        "r": {"$ref": "#/components/schemas/S", "nullable": true, "description": "ignored"},
        "id": {"type": "string", "readOnly": true},
        "e": {"enum": ["a"], "example": {"$ref": "nowhere.yaml"}},
        "odd": {"type": "any", "minLength": "3", "required": true},
    }, "required": ["id", "n"]});
    let post = json!({"post": {"requestBody": {"content": {"application/json": {"schema": schema}}}}});
    let more = json!({"components": {"schemas": {"S": {"type": "string"}}}});
    let document = small("3.0.3", json!({"/x": post}), more);
    let operation = one(&document);
    for (body, fits) in [
        (json!({"n": 2, "r": "x", "e": "a", "odd": 3}), true),
        (json!({"n": null, "r": null}), true),
        (json!({"n": 1}), false),
        (json!({"n": 2, "r": 3}), false),
        (json!({"n": 2, "e": "b"}), false),
        (json!({"r": "x"}), false),
    ] {
        assert_eq!(takes(operation, json!({"body": body})), fits, "{body}");
    }
}

#[test]
fn schemas_of_three_one_are_taken_as_they_are() {
    let schema = json!({"type": ["string", "null"], "const": "x", "$comment": "c"});
    let parameter = json!([{"name": "q", "in": "query", "schema": schema}, {"name": "r", "in": "query", "schema": {"$ref": "#/components/schemas/S", "maxLength": 1}}]);
    let more = json!({"components": {"schemas": {"S": {"type": "string"}}}});
    let document = small("3.1.0", json!({"/x": {"get": {"parameters": parameter}}}), more);
    assert!(takes(one(&document), json!({"q": "x", "r": "a"})));
    assert!(!takes(one(&document), json!({"q": null})) && !takes(one(&document), json!({"r": "ab"})));
}

#[test]
fn the_address_comes_from_the_catalog_the_document_or_its_place() {
    let of = |version: &str, more: Value, options: &ReadOptions| {
        let text = document(version, json!({}), more).to_string();
        read(&text, options).map(|document| document.url.to_string()).map_err(|reason| reason.text)
    };
    let none = ReadOptions::default();
    let at = ReadOptions {
        source: Some("https://docs.example/api/spec.json".parse().unwrap()),
        ..ReadOptions::default()
    };
    let given = ReadOptions { url: Some("http://mine.example/x".parse().unwrap()), ..ReadOptions::default() };
    let server = |url: &str| json!({"servers": [{"url": url, "variables": {"r": {"default": "eu"}, "p": {"enum": ["8443"], "default": "8443"}}}]});
    assert_eq!(
        of("3.0.0", server("https://{r}.x.example:{p}/b"), &none).unwrap(),
        "https://eu.x.example:8443/b"
    );
    assert_eq!(of("3.0.0", server("/v2"), &at).unwrap(), "https://docs.example/v2");
    assert_eq!(of("3.0.0", server("v2"), &at).unwrap(), "https://docs.example/api/v2");
    assert_eq!(of("3.0.0", server("https://{r}.{q}"), &given).unwrap(), "http://mine.example/x");
    let error = of("3.0.0", server("/v2"), &none).unwrap_err();
    assert_eq!(error, "says only `/v2` of where the interface is; give the interface's address as `url`");
    assert!(of("3.0.0", server("https://{q}.x"), &none).unwrap_err().contains("variable without a value"));
    assert!(of("3.0.0", server("ftp://x/"), &none).unwrap_err().contains("neither http nor https"));
    assert_eq!(
        of("2.0", json!({"schemes": ["http", "wss"], "basePath": "/b"}), &none).unwrap(),
        "http://h.example/b"
    );
    assert_eq!(of("2.0", json!({"host": null, "basePath": "/b"}), &at).unwrap(), "https://docs.example/b");
}

#[test]
fn an_operation_is_taken_only_with_the_credentials_that_it_asks_for() {
    let schemes = json!({
        "key": {"type": "apiKey", "in": "header", "name": "X-Key"}, "q": {"type": "apiKey", "in": "query", "name": "k"},
        "bearer": {"type": "http", "scheme": "bearer"}, "oauth": {"type": "oauth2"}, "tls": {"type": "mutualTLS"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": "sid"},
    });
    let code = |security: Value, given: Given| {
        let text = document(
            "3.1.0",
            json!({"/a": {"get": {"security": security}}}),
            json!({"components": {"securitySchemes": schemes}}),
        );
        let options = ReadOptions { given: Some(given), ..ReadOptions::default() };
        let document = read(&text.to_string(), &options).unwrap();
        document.left_out.first().map(|one| one.reason.text.clone())
    };
    let header = |name: &str| Given { headers: [name.to_owned()].into(), ..Given::default() };
    let auth = || Given { auth: true, ..Given::default() };
    for (security, given) in [
        (json!([]), Given::default()),
        (json!([{"key": []}, {}]), Given::default()),
        (json!([{"key": []}]), header("x-key")),
        (json!([{"q": []}, {"bearer": []}]), header("authorization")),
        (json!([{"q": []}]), Given { query: ["k".to_owned()].into(), ..Given::default() }),
        (json!([{"oauth": ["a"]}]), auth()),
        (json!([{"bearer": []}]), auth()),
        (json!([{"cookie": []}]), header("cookie")),
        (json!([{"tls": []}]), Given { certificate: true, ..Given::default() }),
    ] {
        assert_eq!(code(security.clone(), given), None, "{security}");
    }
    for (security, given, says) in [
        (json!([{"key": []}]), auth(), "set `headers`: {\"X-Key\": \"secret://NAME\"}"),
        (json!([{"bearer": [], "key": []}]), header("x-key"), "\"Authorization\": \"bearer secret://NAME\""),
        (json!([{"q": []}]), auth(), "set `query`: {\"k\": \"secret://NAME\"}"),
        (json!([{"q": []}]), Given { query: ["K".to_owned()].into(), ..Given::default() }, "set `query`"),
        (json!([{"oauth": []}]), Given::default(), "set `auth`"),
        (json!([{"tls": []}]), auth(), "set `client_certificate`"),
        (json!([{"cookie": []}]), auth(), "\"cookie\": \"sid=secret://NAME\""),
        (json!([{"none": []}]), auth(), "does not describe"),
    ] {
        let reason = code(security.clone(), given).unwrap_or_else(|| panic!("{security}"));
        assert!(reason.contains(says), "{security}: {reason}");
    }
}

#[test]
fn bytes_within_json_are_a_string_and_in_a_form_a_file() {
    let schema = json!({"$ref": "#/components/schemas/Upload"});
    let upload = json!({"type": "object", "properties": {"data": {"type": "string", "format": "binary"}}});
    let content = |media: &str| {
        let body = json!({"requestBody": {"content": {media: {"schema": schema}}}});
        json!({ "post": body })
    };
    let paths = json!({"/json": content("application/json"), "/form": content("multipart/form-data")});
    let text = document("3.0.4", paths, json!({"components": {"schemas": {"Upload": upload}}}));
    let read = read(&text.to_string(), &ReadOptions::default()).unwrap();
    let of = |path: &str| read.operations.iter().find(|one| one.path == path).unwrap();
    let (plain, file) = (json!({"body": {"data": "x"}}), json!({"body": {"data": {"base64": "AA=="}}}));
    assert!(takes(of("/json"), plain.clone()) && !takes(of("/json"), file.clone()));
    assert!(takes(of("/form"), plain) && takes(of("/form"), file));
}

#[test]
fn a_header_or_parameter_of_the_catalog_is_no_argument() {
    let header =
        |name: &str| json!({"name": name, "in": "header", "required": true, "schema": {"type": "string"}});
    let list = json!([header("X-Api-Key"), header("Authorization"), header("Accept"), header("X-Trace")]);
    let text = document("3.0.0", json!({"/a": {"get": {"parameters": list}}}), json!({})).to_string();
    let given = Given { headers: ["x-api-key".to_owned()].into(), ..Given::default() };
    let read = read(&text, &ReadOptions { given: Some(given), ..ReadOptions::default() }).unwrap();
    assert!(takes(one(&read), json!({"X-Trace": "t"})));
    assert!(!takes(one(&read), json!({"X-Trace": "t", "X-Api-Key": "theirs"})));
    let query =
        |name: &str| json!({"name": name, "in": "query", "required": true, "schema": {"type": "string"}});
    let list = json!([query("api_key"), query("API_KEY")]);
    let text = document("3.0.0", json!({"/a": {"get": {"parameters": list}}}), json!({})).to_string();
    let given = Given { query: ["api_key".to_owned()].into(), ..Given::default() };
    let read = self::read(&text, &ReadOptions { given: Some(given), ..ReadOptions::default() }).unwrap();
    assert!(
        takes(one(&read), json!({"API_KEY": "t"})),
        "names of parameters have capitals and small letters"
    );
    assert!(!takes(one(&read), json!({"API_KEY": "t", "api_key": "theirs"})));
}

#[test]
fn a_filter_takes_and_leaves_out_and_names_its_mistakes() {
    let filtered = |include: Value, exclude: Value| {
        let selection = |value: Value| serde_json::from_value::<Selection>(value).unwrap();
        let filter = Filter { include: selection(include), exclude: selection(exclude) };
        let read = read(TWO, &ReadOptions { filter, ..ReadOptions::default() });
        read.map(|document| document.operations.iter().map(|one| one.name.clone()).collect::<Vec<_>>())
    };
    let names = filtered(json!({"tags": ["store"]}), json!({"operations": ["POST /store/order"]})).unwrap();
    assert_eq!(names, ["getInventory"]);
    let names = filtered(
        json!({"paths": ["/pet/*"], "operations": ["logoutUser"]}),
        json!({"paths": ["/pet/{petId}*"]}),
    );
    assert_eq!(names.unwrap(), ["findPetsByStatus", "logoutUser"]);
    let error = filtered(json!({}), json!({"tags": ["pets"]})).unwrap_err();
    assert_eq!(
        error.text,
        "has no operation that `exclude.tags` names with `pets`; correct it or leave it out"
    );
}

#[test]
fn what_is_no_openapi_document_is_named() {
    for (text, says) in [
        ("{}", "neither `openapi` nor `swagger`"),
        ("openapi: 4.0.0\npaths: {}", "is OpenAPI `4.0.0`"),
        ("swagger: \"1.2\"", "is OpenAPI `1.2`"),
        ("{\"openapi\": ", "not usable JSON"),
        ("openapi: [", "not usable YAML"),
        ("openapi: 3.0.0", "says only `/`"),
        ("openapi: 3.0.0\nservers: [{url: 'https://a'}]", "has no `paths`"),
    ] {
        let error = read(text, &ReadOptions::default()).unwrap_err();
        assert!(error.text.contains(says), "{text}: {error}");
    }
}

#[test]
fn a_tool_is_listed_with_hints_of_its_method() {
    let document = whole(TWO);
    let listed = named(&document, "deletePet").listed();
    assert_eq!(listed["annotations"]["readOnlyHint"], json!(false));
    assert_eq!(listed["annotations"]["idempotentHint"], json!(true));
    assert_eq!(
        listed["_meta"]["openapi"],
        json!({"method": "DELETE", "path": "/pet/{petId}", "url": "https://petstore.swagger.io/v2"})
    );
    assert_eq!(named(&document, "findPetsByStatus").accept, "application/json, application/xml, */*;q=0.1");
}

/// An operation whose body has that schema.
fn with_body(version: &str, schema: Value, schemas: Value) -> Document {
    let body = json!({"required": true, "content": {"application/json": {"schema": schema}}});
    let post = json!({"post": {"operationId": "p", "requestBody": body}});
    small(version, json!({"/x": post}), json!({"components": {"schemas": schemas}}))
}

#[test]
fn a_schema_that_nothing_fits_is_mended_and_remarked() {
    let list = |values: Value| json!({"type": "array", "items": {"type": "string"}, "enum": values});
    let port = json!({"type": "string", "format": "int-or-string"});
    for (schema, fits, not, remark) in [
        (port, vec![json!(8080), json!("http")], vec![json!(1.5)], "int-or-string"),
        (
            json!({"type": "string", "enum": [1, 2]}),
            vec![json!(1), json!("2")],
            vec![json!("3")],
            "another type",
        ),
        (
            json!({"type": "integer", "enum": ["1", "2"]}),
            vec![json!(1), json!("1")],
            vec![json!(3)],
            "another type",
        ),
        (
            json!({"type": "string", "enum": [true]}),
            vec![json!(true), json!("true")],
            vec![json!("no")],
            "another type",
        ),
        (
            list(json!(["a", "b"])),
            vec![json!([]), json!(["a"])],
            vec![json!(["c"]), json!("a")],
            "of their items",
        ),
        (list(json!([1])), vec![json!(["x"])], vec![json!("x")], "of their items"),
        (
            json!({"type": "string", "pattern": "/^[a-z]+$/"}),
            vec![json!("ab")],
            vec![json!("1")],
            "between slashes",
        ),
        (
            json!({"type": "string", "pattern": "/^[a-z]+$/i"}),
            vec![json!("AB")],
            vec![json!(1)],
            "between slashes",
        ),
        (
            json!({"type": "string", "minLength": 5, "maxLength": 2}),
            vec![json!("abc")],
            vec![json!(1)],
            "lower bound",
        ),
    ] {
        for version in ["3.0.3", "3.1.0"] {
            let document = with_body(version, schema.clone(), json!({}));
            for value in &fits {
                assert!(takes(one(&document), json!({"body": value})), "{schema} {value}");
            }
            for value in &not {
                assert!(!takes(one(&document), json!({"body": value})), "{schema} {value}");
            }
            assert!(document.remarks.iter().any(|text| text.contains(remark)), "{:?}", document.remarks);
        }
    }
    // What something fits stays as it is.
    for (schema, fits, not) in [
        (json!({"type": "string", "enum": ["a", 1]}), json!("a"), json!(1)),
        (json!({"type": "string", "pattern": "/a/"}), json!("x/a/y"), json!("a")),
        (json!({"type": ["string", "null"], "enum": [null]}), json!(null), json!("a")),
        (json!({"type": "number", "enum": [1]}), json!(1), json!("1")),
    ] {
        let document = with_body("3.1.0", schema.clone(), json!({}));
        assert!(takes(one(&document), json!({"body": fits})), "{schema}");
        assert!(!takes(one(&document), json!({"body": not})), "{schema}");
        assert_eq!(document.remarks, Vec::<String>::new());
    }
}

#[test]
fn a_value_may_fit_two_branches_of_one_of() {
    let number = json!({"oneOf": [{"type": "integer"}, {"type": "number"}]});
    let both = json!({"oneOf": [{"minimum": 3}, {"minimum": 2}], "anyOf": [{"type": "integer"}]});
    for (schema, fits, not) in [(number, json!(1), json!("1")), (both, json!(4), json!(1))] {
        let document = with_body("3.0.3", schema.clone(), json!({}));
        assert!(takes(one(&document), json!({"body": fits})), "{schema}");
        assert!(!takes(one(&document), json!({"body": not})), "{schema}");
    }
}

#[test]
fn what_is_read_only_anywhere_is_not_required() {
    let base = json!({"type": "object", "properties": {"id": {"type": "string", "readOnly": true}}});
    let stamp = json!({"type": "string", "readOnly": true});
    let schemas = json!({"Base": base, "Stamp": stamp});
    let name = json!({"type": "string"});
    let to_base = json!({"$ref": "#/components/schemas/Base"});
    for schema in [
        json!({"allOf": [to_base], "required": ["id", "name"], "properties": {"name": name}}),
        json!({"allOf": [to_base, {"required": ["id", "name"], "properties": {"name": name}}]}),
        json!({"allOf": [{"allOf": [{"required": ["id", "name"]}]}, base], "properties": {"name": name}}),
        json!({"required": ["id", "name"], "properties": {"name": name, "id": {"$ref": "#/components/schemas/Stamp"}}}),
    ] {
        let document = with_body("3.0.3", schema.clone(), schemas.clone());
        assert!(takes(one(&document), json!({"body": {"name": "n"}})), "{schema}");
        assert!(!takes(one(&document), json!({"body": {}})), "{schema}");
    }
}

#[test]
fn a_json_patch_is_a_list_and_another_patch_the_default() {
    let kinds =
        ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
    let content: serde_json::Map<String, Value> =
        kinds.iter().map(|kind| ((*kind).to_owned(), json!({"schema": {"type": "object"}}))).collect();
    let three = json!({"patch": {"operationId": "p", "requestBody": {"content": content}}});
    let body = json!([{"name": "body", "in": "body", "schema": {"type": "object"}}]);
    let two = json!({"patch": {"operationId": "p", "consumes": kinds, "parameters": body}});
    for document in
        [small("3.0.3", json!({"/x": three}), json!({})), small("2.0", json!({"/x": two}), json!({}))]
    {
        let media = &one(&document).body.as_ref().unwrap().media;
        let order: Vec<_> = media.iter().map(|one| one.content_type.as_str()).collect();
        assert_eq!(order, [kinds[1], kinds[0], kinds[2]]);
        assert!(takes(one(&document), json!({"body": {"spec": {"replicas": 3}}})));
        let list = json!([{"op": "replace", "path": "/spec/replicas", "value": 3}]);
        assert!(takes(one(&document), json!({"body": list, "content_type": kinds[0]})));
        assert!(!takes(one(&document), json!({"body": "x"})));
    }
}

#[test]
fn another_operation_changes_no_definition() {
    let get = |reference: &str| json!({"get": {"parameters": [{"name": "q", "in": "query", "schema": {"$ref": reference}}]}});
    let upload = |media: &str| json!({"post": {"requestBody": {"content": {media: {"schema": {"$ref": "#/components/schemas/Thing"}}}}}});
    let thing = json!({"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}});
    let more = json!({"components": {"schemas": {"Thing": thing, "items": {"type": "string"}},
        "x": {"a": {"items": {"type": "integer"}}, "b": {"items": {"type": "boolean"}}}}});
    let own = [
        ("/own", get("#/components/x/a/items")),
        ("/json", upload("application/json")),
        ("/multipart", upload("multipart/form-data")),
        ("/named", get("#/components/schemas/items")),
    ];
    let before = [
        ("/1", get("#/components/x/b/items")),
        ("/2", upload("multipart/form-data")),
        ("/3", upload("application/json")),
        ("/4", get("#/components/schemas/items")),
    ];
    let read = |paths: Vec<&(&str, Value)>| {
        let paths: serde_json::Map<String, Value> =
            paths.into_iter().map(|(path, item)| ((*path).to_owned(), item.clone())).collect();
        small("3.0.3", Value::Object(paths), more.clone())
    };
    let alone = read(own.iter().collect());
    for neighbour in &before {
        let beside = read(std::iter::once(neighbour).chain(&own).collect());
        for operation in &alone.operations {
            let same = beside.operations.iter().find(|one| one.path == operation.path).unwrap();
            assert_eq!(same.definition(), operation.definition(), "{} {}", neighbour.0, operation.path);
        }
    }
    let defs = |name: &str| {
        named(&alone, name).arguments()["$defs"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!((defs("get_named"), defs("post_json")), (vec!["items".to_owned()], vec!["Thing".to_owned()]));
    assert!(defs("get_own")[0].starts_with("items_") && defs("post_multipart")[0].starts_with("Thing_"));
}

#[test]
fn a_relative_address_of_an_operation_is_below_the_catalogs() {
    let of = |source: Option<&str>, server: &str| {
        let paths = json!({"/a": {"get": {"servers": [{"url": server}]}}});
        let text = document("3.0.0", paths, json!({"servers": []})).to_string();
        let url = Some("https://mine.example/api/v1".parse().unwrap());
        let source = source.map(|source| source.parse().unwrap());
        let read = read(&text, &ReadOptions { url, source, ..ReadOptions::default() }).unwrap();
        read.operations.first().map(|one| one.base.to_string()).ok_or(read.left_out)
    };
    assert_eq!(of(None, "/v2").unwrap(), "https://mine.example/v2");
    assert_eq!(of(Some("https://docs.example/spec.json"), "/v2").unwrap(), "https://mine.example/v2");
    assert_eq!(
        of(Some("https://mine.example/docs/spec.json"), "v2").unwrap(),
        "https://mine.example/docs/v2"
    );
    assert_eq!(of(None, "https://up.example/v2").unwrap_err()[0].reason.code, "other_server");
}
