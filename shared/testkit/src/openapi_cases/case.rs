//! One golden case, and how a request is compared with it.

use serde_json::Value;

/// One case.
#[derive(Debug, Clone)]
pub struct OpenApiCase {
    /// What it shows.
    pub name: String,
    /// The version of OpenAPI that its document has.
    pub version: &'static str,
    /// The path template.
    pub path: String,
    /// The operation, a POST.
    pub operation: Value,
    /// The schemas of the document's components (3.x), by name.
    pub schemas: Value,
    /// The arguments of the call: a JSON text.
    pub arguments: String,
    /// Path and query of the request.
    pub target: String,
    /// Headers of the request, by names in small letters.
    pub headers: Vec<(&'static str, String)>,
    /// Its body. `{boundary}` stands for the boundary that `Content-Type` names.
    pub body: Option<Vec<u8>>,
}

impl OpenApiCase {
    /// Compares a request with the expected one. `header` gives the value of a header by its name in small letters.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare<'a>(
        &self,
        target: &str,
        header: impl Fn(&str) -> Option<&'a str>,
        body: &[u8],
    ) -> Result<(), String> {
        let place = format!("{} ({}) {}", self.name, self.version, self.arguments);
        let content_type = header("content-type").unwrap_or_default();
        let boundary = content_type.split_once("boundary=").map_or("", |(_, boundary)| boundary);
        let named = |text: &str| text.replace("{boundary}", boundary);
        if target != self.target {
            return Err(format!("{place}: sent to {target}, expected {}", self.target));
        }
        for (name, expected) in &self.headers {
            if header(name) != Some(named(expected).as_str()) {
                return Err(format!("{place}: header {name} is {:?}, expected {expected:?}", header(name)));
            }
        }
        let expected = self.body.clone().unwrap_or_default();
        let expected =
            String::from_utf8(expected).map_or_else(|e| e.into_bytes(), |text| named(&text).into_bytes());
        if body != expected {
            let [found, expected] =
                [body, &expected].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            return Err(format!("{place}: body is {found:?}, expected {expected:?}"));
        }
        Ok(())
    }
}

/// The values of the tables, in the order of their columns. Members keep their order.
pub(super) const VALUES: [&str; 4] =
    [r#""""#, r#""blue""#, r#"["blue","black","brown"]"#, r#"{"R":100,"G":200,"B":150}"#];
/// A cell of a table in which nothing is defined.
pub(super) const NONE: &str = "n/a";
