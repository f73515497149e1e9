//! Targets of an AgentCore gateway as servers: MCP servers, Lambda functions, HTTP interfaces.

use serde_json::{Value, json};
use toolfleet_catalog::{Catalog, CatalogSources};
use toolfleet_core::ids::ServerId;

use crate::registries::{header, read, read_with, reason, server, told};

#[test]
fn agentcore_targets_that_are_mcp_servers_are_taken_with_their_credentials() {
    let target = |provider: Value| {
        json!({"name": "t", "targetConfiguration": {"mcp": {"mcpServer": {"endpoint": "https://t.example/mcp"}}},
            "credentialProviderConfigurations": [provider]})
    };
    let key = |more: Value| {
        let mut provider = json!({"providerArn": "arn:aws:x"});
        provider.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        target(
            json!({"credentialProviderType": "API_KEY", "credentialProvider": {"apiKeyCredentialProvider": provider}}),
        )
    };
    let oauth = |grant: &str| {
        target(json!({"credentialProviderType": "OAUTH", "credentialProvider":
            {"oauthCredentialProvider": {"providerArn": "arn:aws:x", "scopes": ["a"], "grantType": grant}}}))
    };
    let role = target(json!({"credentialProviderType": "GATEWAY_IAM_ROLE", "credentialProvider":
        {"iamCredentialProvider": {"service": "execute-api", "region": "eu-west-1"}}}));
    let all = |value: &Value| {
        read_with(&value.to_string(), &["T_API_KEY", "T_CLIENT_ID", "T_CLIENT_SECRET"]).unwrap()
    };
    let bearer =
        all(&key(json!({"credentialParameterName": "Authorization", "credentialPrefix": "Bearer "})));
    let secret = "Bearer secret://toolfleet-dev/t/headers.Authorization";
    assert_eq!(header(&bearer, "t", "Authorization").as_deref(), Some(secret));
    let client = server(&all(&oauth("CLIENT_CREDENTIALS")), "t");
    assert_eq!(client["auth"]["client_id"], "value-of-T_CLIENT_ID");
    assert_eq!(client["auth"]["client_secret"], "secret://toolfleet-dev/t/auth.client_secret");
    let signed = server(&all(&role), "t");
    assert_eq!(
        (&signed["auth"]["service"], &signed["auth"]["region"]),
        (&json!("execute-api"), &json!("eu-west-1"))
    );
    let person = all(&oauth("AUTHORIZATION_CODE"));
    assert!(told(&person).contains("targets.t.auth: is left out"), "{}", told(&person));
    assert!(
        reason(&all(&key(json!({"credentialLocation": "QUERY_PARAMETER"}))), "t").contains("use a header")
    );
}

#[test]
fn agentcore_targets_are_read_in_every_form() {
    let template = "AWSTemplateFormatVersion: '2010-09-09'
Resources:
  Bucket: {Type: 'AWS::S3::Bucket'}
  Docs:
    Type: AWS::BedrockAgentCore::GatewayTarget
    Properties:
      GatewayIdentifier: !Ref Gateway
      Name: docs
      TargetConfiguration: {Mcp: {McpServer: {Endpoint: 'https://docs.example/mcp'}}}
  Orders:
    Type: AWS::BedrockAgentCore::GatewayTarget
    Properties:
      Name: orders
      TargetConfiguration:
        Mcp:
          Lambda: {LambdaArn: !GetAtt Orders.Arn, ToolSchema: {S3: {Uri: 's3://b/k'}}}
  Pets:
    Type: AWS::BedrockAgentCore::GatewayTarget
    Properties: {Name: pets, TargetConfiguration: {Mcp: {McpServer: {Endpoint: {'Fn::Sub': 'https://${Host}/mcp'}}}}}
";
    let catalog = read_with(template, &[]).unwrap();
    assert_eq!(server(&catalog, "docs")["url"], "https://docs.example/mcp");
    assert!(reason(&catalog, "orders").contains("a schema in S3 is not read here"));
    assert!(reason(&catalog, "pets").contains("`Fn::Sub`"));
    let one = json!({"gatewayIdentifier": "g", "name": "a b", "targetConfiguration": {"mcp": {"smithyModel": {"inlinePayload": "{}"}}}});
    assert!(reason(&read(&one), "a-b").contains("smithyModel"));
    let listed =
        json!({"items": [{"targetId": "AB12CD34EF", "name": "t", "status": "READY"}], "nextToken": "x"});
    assert!(reason(&read(&listed), "t").contains("get-gateway-target"));
}

#[test]
fn an_agentcore_function_brings_the_tools_that_its_target_declares() {
    let template = "Resources:
  Orders:
    Type: AWS::BedrockAgentCore::GatewayTarget
    Properties:
      Name: orders
      Description: Orders by number
      TargetConfiguration:
        Mcp:
          Lambda:
            LambdaArn: 'arn:aws:lambda:us-west-2:123456789012:function:orders'
            ToolSchema:
              InlinePayload:
                - Name: get_order
                  Description: One order
                  InputSchema: {Type: object, Properties: {OrderId: {Type: string}}, Required: [OrderId]}
      CredentialProviderConfigurations: [{CredentialProviderType: GATEWAY_IAM_ROLE}]
";
    let catalog = read_with(template, &[]).unwrap();
    let entry = server(&catalog, "orders");
    assert_eq!((&entry["payload"], &entry["target_name"]), (&json!("arguments"), &json!("orders")));
    assert_eq!((&entry["discover"], &entry["description"]), (&json!(false), &json!("Orders by number")));
    let tools = catalog.tools();
    assert_eq!((tools.len(), tools[0].id.as_str()), (1, "orders.get_order"));
    assert_eq!(tools[0].description.as_deref(), Some("One order"));
    let schema = tools[0].functions[0].schema.as_ref().unwrap().value();
    assert_eq!(
        schema,
        json!({"type": "object", "properties": {"OrderId": {"type": "string"}}, "required": ["OrderId"]})
    );
    let in_s3 = json!({"name": "t", "targetConfiguration": {"mcp": {"lambda": {
        "lambdaArn": "arn:aws:lambda:us-west-2:123456789012:function:orders", "toolSchema": {"s3": {"uri": "s3://b/k"}}}}}});
    assert!(reason(&read(&in_s3), "t").contains("a schema in S3 is not read here"));
}

const PETS: &str = "openapi: 3.0.3
info: {title: Pets, version: '1'}
servers: [{url: 'https://pets.example/v1'}]
components: {securitySchemes: {key: {type: apiKey, in: header, name: X-Key}}}
paths:
  /pets: {get: {operationId: listPets, responses: {}, security: [{key: []}]}}
  /health: {get: {operationId: health, responses: {}}}
";

fn interface(schema: Value, providers: Value) -> Value {
    json!({"name": "pets", "description": "All pets", "targetConfiguration": {"mcp": {"openApiSchema": schema}},
        "credentialProviderConfigurations": providers})
}

fn api_key(header: &str) -> Value {
    json!([{"credentialProviderType": "API_KEY", "credentialProvider": {"apiKeyCredentialProvider":
        {"providerArn": "arn:aws:x", "credentialParameterName": header, "credentialLocation": "HEADER"}}}])
}

fn operations(catalog: &Catalog) -> Vec<String> {
    let server = catalog.server(&ServerId::parse("pets").unwrap()).unwrap_or_else(|| panic!("{catalog:?}"));
    server.openapi().unwrap().interface.names().map(str::to_owned).collect()
}

#[test]
fn a_key_in_the_query_of_an_agentcore_interface_is_the_catalogs() {
    let document = PETS.replace("in: header", "in: query");
    assert_ne!(document, PETS);
    let mut providers = api_key("X-Key");
    providers[0]["credentialProvider"]["apiKeyCredentialProvider"]["credentialLocation"] =
        json!("QUERY_PARAMETER");
    let target = interface(json!({"inlinePayload": document}), providers);
    let catalog = read_with(&target.to_string(), &["PETS_API_KEY"]).unwrap();
    assert_eq!(operations(&catalog), ["health", "listPets"]);
    let pets = catalog.server(&ServerId::parse("pets").unwrap()).unwrap();
    let query = &pets.openapi().unwrap().query;
    assert_eq!(query["X-Key"].expose(), "secret://toolfleet-dev/pets/query.X-Key");
}

#[test]
fn an_agentcore_interface_is_one_of_its_inline_document() {
    let target = interface(json!({"inlinePayload": PETS}), api_key("X-Key"));
    let catalog = read_with(&target.to_string(), &["PETS_API_KEY"]).unwrap();
    assert_eq!(operations(&catalog), ["health", "listPets"]);
    let entry = server(&catalog, "pets");
    assert_eq!((&entry["url"], &entry["discover"]), (&json!("https://pets.example/v1"), &json!(true)));
    assert_eq!(entry["description"], "All pets");
    assert_eq!(
        header(&catalog, "pets", "X-Key").as_deref(),
        Some("secret://toolfleet-dev/pets/headers.X-Key")
    );
    let template = format!(
        "Resources:\n  Pets:\n    Type: AWS::BedrockAgentCore::GatewayTarget\n    Properties:\n      Name: pets\n      TargetConfiguration:\n        \
         Mcp: {{OpenApiSchema: {{InlinePayload: {}}}}}\n      CredentialProviderConfigurations: [{{CredentialProviderType: API_KEY, \
         CredentialProvider: {{ApiKeyCredentialProvider: {{CredentialParameterName: X-Key, CredentialLocation: HEADER}}}}}}]\n",
        Value::from(PETS)
    );
    assert_eq!(operations(&read_with(&template, &["PETS_API_KEY"]).unwrap()), ["health", "listPets"]);
}

#[test]
fn an_agentcore_interface_names_its_document_in_s3() {
    let target = interface(
        json!({"s3": {"uri": "s3://specs/pets.yaml", "bucketOwnerAccountId": "1"}}),
        api_key("X-Key"),
    );
    let other = json!({"name": "docs", "targetConfiguration": {"mcp": {"mcpServer": {"endpoint": "https://docs.example/mcp"}}}});
    let text = json!({"targets": [target, other.clone()]}).to_string();
    assert_eq!(Catalog::references(&text).unwrap().documents, ["s3://specs/pets.yaml"]);
    let sources = |read: bool| CatalogSources {
        tenants: Some(vec!["*".to_owned()]),
        included: if read {
            [("s3://specs/pets.yaml".to_owned(), PETS.to_owned())].into()
        } else {
            Default::default()
        },
        ..CatalogSources::default()
    };
    let catalog = Catalog::parse_with(&text, &sources(true)).unwrap();
    assert!(reason(&catalog, "pets").contains("X-Key"), "its key is a placeholder that nobody fills in");
    let open = interface(json!({"s3": {"uri": "s3://specs/pets.yaml"}}), json!([])).to_string();
    let without_keys = PETS.replace(", security: [{key: []}]", "");
    let mut material = sources(true);
    material.included.insert("s3://specs/pets.yaml".to_owned(), without_keys);
    assert_eq!(operations(&Catalog::parse_with(&open, &material).unwrap()), ["health", "listPets"]);
    let open = interface(json!({"s3": {"uri": "s3://specs/pets.yaml"}}), json!([]));
    let text = json!({"targets": [open, other]}).to_string();
    let unread = Catalog::parse_with(&text, &sources(false)).unwrap();
    assert!(reason(&unread, "pets").contains("s3://specs/pets.yaml"));
    assert_eq!(server(&unread, "docs")["url"], "https://docs.example/mcp", "the rest loads");
}

#[test]
fn an_agentcore_interface_that_cannot_be_taken_says_why_and_the_rest_loads() {
    let open = PETS.replace(", security: [{key: []}]", "");
    let oauth = json!([{"credentialProviderType": "OAUTH", "credentialProvider": {"oauthCredentialProvider":
        {"providerArn": "arn:aws:x", "scopes": ["a"]}}}]);
    for (schema, providers, expected) in [
        (json!({"inlinePayload": PETS}), json!([]), "asks for the security scheme `key`"),
        (json!({"inlinePayload": "{\"openapi\": "}), json!([]), "`openApiSchema.inlinePayload` that"),
        (json!({"inlinePayload": "just a text"}), json!([]), "is no OpenAPI document"),
        (json!({"inlinePayload": "[1]"}), json!([]), "is no OpenAPI document"),
        (json!({"inlinePayload": {"Fn::Sub": "x"}}), json!([]), "is not computed here"),
        (
            json!({"s3": {"uri": "https://b.s3.amazonaws.com/k"}}),
            json!([]),
            "no `s3.uri` that begins with s3://",
        ),
        (json!({}), json!([]), "write the document, or its place"),
        (json!({"inlinePayload": "openapi: 3.0.3\npaths: {}\n"}), json!([]), "`openapi`"),
    ] {
        let other = json!({"name": "docs", "targetConfiguration": {"mcp": {"mcpServer": {"endpoint": "https://docs.example/mcp"}}}});
        let catalog = read(&json!({"items": [interface(schema, providers), other]}));
        let why = reason(&catalog, "pets");
        assert!(why.contains(expected), "{expected}: {why}");
        assert_eq!(catalog.servers().len(), 1);
    }
    let names = ["PETS_CLIENT_ID", "PETS_CLIENT_SECRET"];
    let catalog = read_with(&interface(json!({"inlinePayload": open}), oauth).to_string(), &names).unwrap();
    assert!(
        told(&catalog).contains("targets.pets.auth: needs the authorization server"),
        "{}",
        told(&catalog)
    );
    let smithy =
        json!({"name": "pets", "targetConfiguration": {"mcp": {"smithyModel": {"inlinePayload": "{}"}}}});
    assert!(reason(&read(&smithy), "pets").contains("described in Smithy (`smithyModel`)"));
    let stage = json!({"name": "pets", "targetConfiguration": {"mcp": {"apiGateway": {"restApiId": "x", "stage": "prod"}}}});
    assert!(reason(&read(&stage), "pets").contains("aws apigateway get-export"));
}

#[test]
fn an_agentcore_interface_is_printed_in_our_own_form() {
    let target = interface(json!({"inlinePayload": PETS}), api_key("X-Key"));
    let own = Catalog::own_form(&target.to_string(), &Default::default()).unwrap();
    let printed = &own.catalog["servers"]["pets"];
    assert_eq!(printed["openapi"]["info"]["title"], "Pets");
    assert_eq!(printed["headers"], json!({"X-Key": "${PETS_API_KEY}"}));
    assert!(own.left_out.is_empty(), "{:?}", own.left_out);
}

#[test]
fn what_an_agentcore_target_says_beside_is_taken_or_named() {
    let parameters =
        json!({"audience": "https://api", "resource": "urn:api", "organization": "o", "prompt": 1});
    let provider = json!({"credentialProviderType": "OAUTH", "credentialProvider": {"oauthCredentialProvider":
        {"providerArn": "arn:aws:x", "scopes": ["a"], "customParameters": parameters}}});
    let target = json!({"name": "t", "status": "FAILED", "credentialProviderConfigurations": [provider],
        "targetConfiguration": {"mcp": {"mcpServer": {"endpoint": "https://t.example/mcp"}}}});
    let catalog = read_with(&target.to_string(), &["T_CLIENT_ID", "T_CLIENT_SECRET"]).unwrap();
    let auth = &server(&catalog, "t")["auth"];
    assert_eq!((&auth["audience"], &auth["resource"]), (&json!("https://api"), &json!("urn:api")));
    let told = told(&catalog);
    assert!(told.contains("`customParameters` `organization`, `prompt`"), "{told}");
    assert!(told.contains("targets.t.status: is FAILED at the gateway"), "{told}");
    let tools = json!([{"name": "f", "description": "d", "inputSchema": {"type": "object"}, "outputSchema": {"type": "object"}}]);
    let lambda = json!({"lambdaArn": "arn:aws:lambda:us-east-1:123456789012:function:f", "toolSchema": {"inlinePayload": tools}});
    let target = json!({"name": "f", "targetConfiguration": {"mcp": {"lambda": lambda}}});
    let told = crate::registries::told(&read_with(&target.to_string(), &[]).unwrap());
    assert!(told.contains("targets.f.tools: have an `outputSchema`"), "{told}");
}
