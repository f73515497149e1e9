//! HTTP of SQS, Secrets Manager and S3 on one port: selects the service, writes answers and errors.
//!
//! Signatures are not checked; only the access key id is read from them.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::s3::service::S3Service;
use crate::secrets::SecretsService;
use crate::sqs::error::SqsError;
use crate::sqs::service::SqsService;

/// A message of 1 MiB takes up to six times as much as escaped JSON; an object is the larger one.
const MAX_REQUEST_BYTES: usize = 128 * 1024 * 1024;

/// The services behind one port.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pub(crate) sqs: Arc<SqsService>,
    pub(crate) secrets: Arc<SecretsService>,
    pub(crate) s3: Arc<S3Service>,
}

pub(crate) fn router(services: Services) -> Router {
    Router::new().fallback(answer).layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES)).with_state(services)
}

async fn answer(
    State(services): State<Services>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    if is_for_s3(&method, &uri, &headers) {
        return services.s3.answer(&method, &uri, &headers, body);
    }
    if method != Method::POST {
        let names = json!({ "services": ["sqs", "secretsmanager", "s3"], "status": "running" });
        return respond(StatusCode::OK, "application/json", None, &names);
    }
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    match target.split_once('.') {
        Some(("secretsmanager", operation)) => answer_secrets(&services.secrets, operation, &body),
        Some(("AmazonSQS", operation)) => {
            let answer = crate::sqs::answer(&services.sqs, operation, &body, access_key_id(&headers)).await;
            answer_sqs(answer)
        }
        Some(_) | None => answer_sqs(Err(SqsError::UnknownOperation(target.to_owned()))),
    }
}

/// SQS and Secrets Manager are posted to and name their operation; what is signed for S3, or asked of a path in another way, is S3's.
fn is_for_s3(method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
    let signed = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let signed = signed.is_some_and(|text| text.contains("/s3/aws4_request"));
    let presigned = uri.query().is_some_and(|query| query.contains("%2Fs3%2Faws4_request"));
    signed || presigned || (method != Method::POST && uri.path().len() > 1)
}

fn answer_sqs(answer: Result<Value, SqsError>) -> Response<Body> {
    const CONTENT_TYPE: &str = "application/x-amz-json-1.0";
    match answer {
        Ok(value) => respond(StatusCode::OK, CONTENT_TYPE, None, &value),
        Err(error) => {
            let (status, fault) = match error.is_senders_fault() {
                true => (StatusCode::BAD_REQUEST, "Sender"),
                false => (StatusCode::INTERNAL_SERVER_ERROR, "Receiver"),
            };
            let query_error = HeaderValue::try_from(format!("{};{fault}", error.query_code())).ok();
            let body = json!({ "__type": error.shape(), "message": error.to_string() });
            respond(status, CONTENT_TYPE, query_error, &body)
        }
    }
}

fn answer_secrets(service: &SecretsService, operation: &str, body: &Bytes) -> Response<Body> {
    const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
    match service.answer(operation, body) {
        Ok(value) => respond(StatusCode::OK, CONTENT_TYPE, None, &value),
        Err(error) => {
            let status = match error.is_callers_fault() {
                true => StatusCode::BAD_REQUEST,
                false => StatusCode::INTERNAL_SERVER_ERROR,
            };
            let body = json!({ "__type": error.shape(), "Message": error.to_string() });
            respond(status, CONTENT_TYPE, None, &body)
        }
    }
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    query_error: Option<HeaderValue>,
    body: &Value,
) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(request_id) = HeaderValue::try_from(uuid::Uuid::new_v4().to_string()) {
        headers.insert("x-amzn-requestid", request_id);
    }
    if let Some(query_error) = query_error {
        headers.insert("x-amzn-query-error", query_error);
    }
    response
}

/// The access key id of the signature, which stands for the sender.
fn access_key_id(headers: &HeaderMap) -> &str {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let credential = authorization.and_then(|text| text.split_once("Credential=")).map(|(_, rest)| rest);
    credential
        .and_then(|rest| rest.split(['/', ',', ' ']).next())
        .filter(|id| !id.is_empty())
        .unwrap_or("anonymous")
}
