//! The S3 endpoint, with buckets in the path: the operations that the SDKs, the aws command and toolfleet use.
//!
//! It serves objects (put, get, head, delete, multipart uploads), listings and buckets, and shows the life cycle of a bucket of the template.
//! Requests for policies and versions are refused.
//!
//! **Invariant:** an object is stored completely before its put is answered.

mod body;
mod exchange;
mod multipart;
mod objects;
pub(crate) mod service;
mod store;
mod xml;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use bytes::Bytes;

use exchange::{Answer, Asked, S3Error, not_written};
use service::S3Service;

/// Query parameters of operations that are not served.
const NOT_SERVED: [&str; 17] = [
    "accelerate",
    "acl",
    "analytics",
    "attributes",
    "cors",
    "encryption",
    "inventory",
    "legal-hold",
    "logging",
    "notification",
    "object-lock",
    "policy",
    "replication",
    "restore",
    "retention",
    "tagging",
    "website",
];

impl S3Service {
    /// The answer to one request.
    pub(crate) fn answer(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Response<Body> {
        let path = uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let query = pairs.map(|(name, value)| (decoded(name), decoded(&value.replace('+', " ")))).collect();
        let asked = Asked { method, bucket: decoded(bucket), key: decoded(key), query, headers, body };
        let answer = self.answered(&asked).unwrap_or_else(|error| {
            let text = format!(
                "<Error><Code>{}</Code><Message>{}</Message><Resource>{}</Resource></Error>",
                error.code,
                xml::escaped(&error.message),
                xml::escaped(uri.path())
            );
            Answer { status: error.status, ..Answer::xml(text) }
        });
        responded(answer)
    }

    fn answered(&self, asked: &Asked<'_>) -> Result<Answer, S3Error> {
        if let Some(what) = NOT_SERVED.into_iter().find(|what| asks(asked, what)) {
            return Err(S3Error::not_served(what));
        }
        match (asked.bucket.is_empty(), asked.key.is_empty()) {
            (true, _) => self.list_buckets(asked),
            (false, true) => self.of_bucket(asked),
            (false, false) => self.of_object(asked),
        }
    }

    fn list_buckets(&self, asked: &Asked<'_>) -> Result<Answer, S3Error> {
        if asked.method != Method::GET {
            return Err(S3Error::not_served("what is asked without a bucket"));
        }
        Ok(Answer::xml(xml::buckets(self.store().buckets())))
    }

    fn of_bucket(&self, asked: &Asked<'_>) -> Result<Answer, S3Error> {
        let exists = self.store().has_bucket(&asked.bucket);
        match *asked.method {
            Method::PUT | Method::DELETE if asks(asked, "lifecycle") => {
                Err(S3Error::not_served("the change of a life cycle"))
            }
            Method::PUT => {
                self.create_bucket(&asked.bucket).map_err(not_written)?;
                Ok(Answer::new(StatusCode::OK).with("location", format!("/{}", asked.bucket)))
            }
            _ if !exists => Err(S3Error::no_bucket(&asked.bucket)),
            Method::HEAD => Ok(Answer::new(StatusCode::OK).with("x-amz-bucket-region", crate::names::REGION)),
            Method::GET if asks(asked, "location") => Ok(Answer::xml(
                "<LocationConstraint xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"/>".to_owned(),
            )),
            Method::GET if asks(asked, "versioning") => Ok(Answer::xml(
                "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"/>".to_owned(),
            )),
            Method::GET if asks(asked, "lifecycle") => self.lifecycle(&asked.bucket),
            Method::GET if asks(asked, "uploads") => {
                Err(S3Error::not_served("the listing of unfinished uploads"))
            }
            Method::GET => Ok(objects::list(&self.store(), asked)),
            Method::POST if asks(asked, "delete") => self.delete_many(asked),
            Method::DELETE => {
                self.store().delete_bucket(&asked.bucket).map_err(not_written)?.then_some(()).ok_or_else(
                    || {
                        S3Error::new(
                            StatusCode::CONFLICT,
                            "BucketNotEmpty",
                            "The bucket you tried to delete is not empty",
                        )
                    },
                )?;
                Ok(Answer::new(StatusCode::NO_CONTENT))
            }
            _ => Err(S3Error::not_served("this operation on a bucket")),
        }
    }

    fn lifecycle(&self, bucket: &str) -> Result<Answer, S3Error> {
        let days = self.expiry().get(bucket).copied().ok_or_else(|| {
            S3Error::new(
                StatusCode::NOT_FOUND,
                "NoSuchLifecycleConfiguration",
                "The lifecycle configuration does not exist",
            )
        })?;
        Ok(Answer::xml(format!(
            "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Rule><ID>expiry</ID><Filter/><Status>Enabled</Status>\
             <Expiration><Days>{days}</Days></Expiration></Rule></LifecycleConfiguration>"
        )))
    }

    fn of_object(&self, asked: &Asked<'_>) -> Result<Answer, S3Error> {
        if !self.store().has_bucket(&asked.bucket) {
            return Err(S3Error::no_bucket(&asked.bucket));
        }
        match *asked.method {
            Method::PUT if asked.header("x-amz-copy-source").is_some() => {
                Err(S3Error::not_served("the copy of an object"))
            }
            Method::PUT if asks(asked, "partNumber") => self.put_part(asked),
            Method::PUT => self.put(asked),
            Method::POST if asks(asked, "uploads") => Ok(self.begin_upload(asked)),
            Method::POST if asks(asked, "uploadId") => self.complete_upload(asked),
            Method::GET | Method::HEAD => objects::get(&self.store(), asked),
            Method::DELETE if asks(asked, "uploadId") => Ok(self.abort_upload(asked)),
            Method::DELETE => {
                self.store().delete(&asked.bucket, &asked.key).map_err(not_written)?;
                Ok(Answer::new(StatusCode::NO_CONTENT))
            }
            _ => Err(S3Error::not_served("this operation on an object")),
        }
    }
}

fn asks(asked: &Asked<'_>, what: &str) -> bool {
    asked.query.contains_key(what)
}

fn responded(answer: Answer) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static("toolfleet-local"));
    if let Ok(id) = HeaderValue::try_from(uuid::Uuid::new_v4().simple().to_string()) {
        response.headers_mut().insert("x-amz-request-id", id);
    }
    response
}

/// Decodes percent-encoding.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'%').then(|| after.get(..2).and_then(|code| hex::decode(code).ok())).flatten();
        match code {
            Some(code) => {
                bytes.extend(code);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
