//! The XML of S3: writes answers, and reads the keys of a request to delete several objects.
//!
//! **Invariant:** text from a request is escaped in an answer.

use super::exchange::Asked;
use super::store::{About, Listed};

const DAY_MS: u64 = 86_400_000;

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\r', "&#13;")
}

fn plain(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    text.replace("&#13;", "\r").replace("&amp;", "&")
}

/// The keys that a request to delete several names.
pub(super) fn keys(text: &str) -> Vec<String> {
    let parts = text.split("<Key>").skip(1);
    parts.filter_map(|part| part.split_once("</Key>")).map(|(key, _)| plain(key)).collect()
}

pub(super) fn buckets<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let bucket = |name: &String| {
        format!("<Bucket><Name>{}</Name><CreationDate>{}</CreationDate></Bucket>", escaped(name), iso_date(0))
    };
    let buckets: String = names.map(bucket).collect();
    format!(
        "<ListAllMyBucketsResult><Owner><ID>local</ID></Owner><Buckets>{buckets}</Buckets></ListAllMyBucketsResult>"
    )
}

pub(super) fn listing(
    asked: &Asked<'_>,
    listed: &Listed<'_>,
    token: Option<&str>,
    is_2: bool,
    most: usize,
) -> String {
    let mut text = String::from("<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    let mut element =
        |name: &str, value: &str| text.push_str(&format!("<{name}>{}</{name}>", escaped(value)));
    element("Name", &asked.bucket);
    element("Prefix", asked.asks("prefix").unwrap_or_default());
    if let Some(delimiter) = asked.asks("delimiter") {
        element("Delimiter", delimiter);
    }
    element("MaxKeys", &most.to_string());
    element("IsTruncated", if token.is_some() { "true" } else { "false" });
    match (is_2, token) {
        (true, Some(token)) => element("NextContinuationToken", token),
        (false, Some(_)) => element("NextMarker", listed.next.as_deref().unwrap_or_default()),
        (_, None) => {}
    }
    if is_2 {
        element("KeyCount", &(listed.objects.len() + listed.prefixes.len()).to_string());
    }
    for About { key, etag, length, modified_ms, .. } in &listed.objects {
        text.push_str(&format!(
            "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>&quot;{etag}&quot;</ETag><Size>{length}</Size>\
             <StorageClass>STANDARD</StorageClass></Contents>",
            escaped(key),
            iso_date(*modified_ms)
        ));
    }
    for prefix in &listed.prefixes {
        text.push_str(&format!("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(prefix)));
    }
    text.push_str("</ListBucketResult>");
    text
}

/// Year, month, day of the month and of the week (0 is Thursday) of a time.
fn date(ms: u64) -> (u64, usize, u64, usize) {
    let days = ms / DAY_MS;
    // The days of the Gregorian calendar, counted from March of the year 0, as 400 years that are all alike.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, usize::try_from(month).unwrap_or(1), day, usize::try_from(days % 7).unwrap_or(0))
}

fn iso_date(ms: u64) -> String {
    let (year, month, day, _) = date(ms);
    let (hour, minute, second) = clock(ms);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

/// As headers carry it.
pub(super) fn http_date(ms: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day, weekday) = date(ms);
    let (hour, minute, second) = clock(ms);
    let weekday = DAYS.get(weekday).copied().unwrap_or_default();
    let month = MONTHS.get(month.saturating_sub(1)).copied().unwrap_or_default();
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

const fn clock(ms: u64) -> (u64, u64, u64) {
    let seconds = ms % DAY_MS / 1_000;
    (seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_headers_and_listings_carry_them() {
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(1_795_253_400_123), "Sat, 21 Nov 2026 09:30:00 GMT");
        assert_eq!(iso_date(1_709_210_096_007), "2024-02-29T12:34:56.007Z");
    }

    #[test]
    fn keys_to_delete_are_read_and_unescaped() {
        assert_eq!(
            keys("<Delete><Object><Key>a&amp;b</Key></Object><Object><Key>c</Key></Object></Delete>"),
            ["a&b", "c"]
        );
    }
}
