//! Owns uploads in parts, which the SDKs make of larger files by themselves.
//!
//! **Invariant:** an object of parts appears when its upload is completed, whole; unfinished uploads go with the endpoint.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use bytes::BytesMut;
use md5::Digest as _;

use super::exchange::{Answer, S3Error, S3Request};
use super::store::About;
use super::uploads::Upload;
use super::{S3Service, body, xml};

fn no_upload() -> S3Error {
    S3Error::new(StatusCode::NOT_FOUND, "NoSuchUpload", "The specified multipart upload does not exist.")
}

impl S3Service {
    pub(super) fn begin_upload(&self, asked: &S3Request<'_>) -> Answer {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let about = self.about(asked, String::new(), 0);
        self.parts().0.insert(id.clone(), Upload { about, parts: BTreeMap::new() });
        let (bucket, key) = (xml::escaped(&asked.bucket), xml::escaped(&asked.key));
        Answer::xml(format!(
            "<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        ))
    }

    pub(super) fn put_part(&self, asked: &S3Request<'_>) -> Result<Answer, S3Error> {
        let body::Sent { bytes, checksums } = body::read(asked)?;
        let number = asked.asks("partNumber").and_then(|number| number.parse().ok());
        let invalid =
            || S3Error::new(StatusCode::BAD_REQUEST, "InvalidArgument", "partNumber must be a number");
        let number = number.ok_or_else(invalid)?;
        let mut parts = self.parts();
        let upload = parts.0.get_mut(asked.asks("uploadId").unwrap_or_default()).ok_or_else(no_upload)?;
        let etag = hex::encode(md5::Md5::digest(&bytes));
        upload.parts.insert(number, (etag.clone(), bytes));
        let answer = Answer::new(StatusCode::OK).with("etag", format!("\"{etag}\""));
        Ok(checksums.iter().fold(answer, |answer, (name, value)| answer.with(name, value)))
    }

    pub(super) fn complete_upload(&self, asked: &S3Request<'_>) -> Result<Answer, S3Error> {
        let id = asked.asks("uploadId").unwrap_or_default();
        let upload = self.parts().0.remove(id).ok_or_else(no_upload)?;
        let (mut bytes, mut etags) = (BytesMut::new(), Vec::new());
        for (etag, part) in upload.parts.values() {
            bytes.extend_from_slice(part);
            etags.extend(hex::decode(etag).unwrap_or_default());
        }
        let etag = format!("{}-{}", hex::encode(md5::Md5::digest(&etags)), upload.parts.len());
        let about = About { etag: etag.clone(), length: bytes.len(), ..upload.about };
        self.keep(asked, about, bytes.freeze())?;
        let (bucket, key) = (xml::escaped(&asked.bucket), xml::escaped(&asked.key));
        Ok(Answer::xml(format!(
            "<CompleteMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key><ETag>\"{etag}\"</ETag></CompleteMultipartUploadResult>"
        )))
    }

    pub(super) fn abort_upload(&self, asked: &S3Request<'_>) -> Answer {
        self.parts().0.remove(asked.asks("uploadId").unwrap_or_default());
        Answer::new(StatusCode::NO_CONTENT)
    }
}
