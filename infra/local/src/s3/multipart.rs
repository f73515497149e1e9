//! Multipart uploads, which the SDKs use for larger files.
//!
//! **Invariant:** the object appears when its upload is completed. Unfinished uploads are kept in memory only.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use bytes::BytesMut;
use md5::Digest as _;

use super::exchange::{Answer, Asked, S3Error};
use super::service::{S3Service, Upload};
use super::store::About;
use super::{body, xml};

fn no_upload() -> S3Error {
    S3Error::new(StatusCode::NOT_FOUND, "NoSuchUpload", "The specified multipart upload does not exist.")
}

impl S3Service {
    pub(super) fn begin_upload(&self, asked: &Asked<'_>) -> Answer {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let about = self.about(asked, String::new(), 0);
        self.uploads().0.insert(id.clone(), Upload { about, parts: BTreeMap::new() });
        let (bucket, key) = (xml::escaped(&asked.bucket), xml::escaped(&asked.key));
        Answer::xml(format!(
            "<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        ))
    }

    pub(super) fn put_part(&self, asked: &Asked<'_>) -> Result<Answer, S3Error> {
        let body::Sent { bytes, checksums } = body::read(asked)?;
        let number = asked.asks("partNumber").and_then(|number| number.parse().ok());
        let invalid =
            || S3Error::new(StatusCode::BAD_REQUEST, "InvalidArgument", "partNumber must be a number");
        let number = number.ok_or_else(invalid)?;
        let mut uploads = self.uploads();
        let upload = uploads.0.get_mut(asked.asks("uploadId").unwrap_or_default()).ok_or_else(no_upload)?;
        let etag = hex::encode(md5::Md5::digest(&bytes));
        upload.parts.insert(number, (etag.clone(), bytes));
        let answer = Answer::new(StatusCode::OK).with("etag", format!("\"{etag}\""));
        Ok(checksums.iter().fold(answer, |answer, (name, value)| answer.with(name, value)))
    }

    pub(super) fn complete_upload(&self, asked: &Asked<'_>) -> Result<Answer, S3Error> {
        let id = asked.asks("uploadId").unwrap_or_default();
        let upload = self.uploads().0.remove(id).ok_or_else(no_upload)?;
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

    pub(super) fn abort_upload(&self, asked: &Asked<'_>) -> Answer {
        self.uploads().0.remove(asked.asks("uploadId").unwrap_or_default());
        Answer::new(StatusCode::NO_CONTENT)
    }
}
