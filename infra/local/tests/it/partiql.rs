//! Tests of what the worker's tables need of `BatchExecuteStatement`.
//!
//! **Invariant:** every rule that the store relies on is one test here, seen through the SDK.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;
use aws_sdk_dynamodb::operation::batch_execute_statement::{
    BatchExecuteStatementError, BatchExecuteStatementOutput,
};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementErrorCodeEnum, BatchStatementRequest, ReturnValuesOnConditionCheckFailure,
};

use crate::harness::Local;

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn statement(text: &str, parameters: impl IntoIterator<Item = AttributeValue>) -> BatchStatementRequest {
    BatchStatementRequest::builder()
        .statement(text)
        .set_parameters(Some(parameters.into_iter().collect()))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .unwrap()
}

async fn try_batch(
    local: &Local,
    statements: Vec<BatchStatementRequest>,
) -> Result<BatchExecuteStatementOutput, BatchExecuteStatementError> {
    let sent = local.dynamodb.batch_execute_statement().set_statements(Some(statements)).send().await;
    sent.map_err(aws_sdk_dynamodb::error::SdkError::into_service_error)
}

/// Each statement's refusal with the old item, None for success.
async fn batch(
    local: &Local,
    statements: Vec<BatchStatementRequest>,
) -> Vec<Option<(BatchStatementErrorCodeEnum, Option<HashMap<String, AttributeValue>>)>> {
    let answer = try_batch(local, statements).await.unwrap();
    let refusal = |error: &aws_sdk_dynamodb::types::BatchStatementError| {
        (error.code().unwrap().clone(), error.item().cloned())
    };
    answer.responses().iter().map(|response| response.error().map(refusal)).collect()
}

async fn row(local: &Local, pk: &str) -> Option<HashMap<String, AttributeValue>> {
    let got =
        local.dynamodb.get_item().table_name("toolfleet-calls").key("pk", text(pk)).send().await.unwrap();
    got.item().cloned()
}

const INSERT: &str = r#"INSERT INTO "toolfleet-calls" VALUE {'pk': ?, 'fence': ?, 'state': ?}"#;

fn insert(pk: &str) -> BatchStatementRequest {
    statement(INSERT, [text(pk), number(1), text("claimed")])
}

#[tokio::test]
async fn an_insert_of_an_existing_key_is_a_duplicate_without_the_old_item_and_its_neighbours_are_unharmed() {
    let local = Local::start().await;
    assert_eq!(batch(&local, vec![insert("a")]).await, [None]);
    let answers = batch(&local, vec![insert("b"), insert("a"), insert("c")]).await;
    assert_eq!(answers, [None, Some((BatchStatementErrorCodeEnum::DuplicateItem, None)), None]);
    assert!(row(&local, "c").await.is_some());
}

#[tokio::test]
async fn an_update_sets_several_and_removes_one_under_a_condition_of_fence_and_state() {
    let local = Local::start().await;
    batch(&local, vec![insert("a"), insert("b")]).await;
    let update = r#"UPDATE "toolfleet-calls" SET "state"=? SET result=? SET nonce=? REMOVE claimed_until
                    WHERE pk=? AND fence=? AND "state"=?"#;
    let finish = |pk: &str, fence: u64| {
        let nested = AttributeValue::M(HashMap::from([
            ("none".to_owned(), AttributeValue::Null(true)),
            ("list".to_owned(), AttributeValue::L(vec![text("x"), number(2)])),
        ]));
        let nonce = AttributeValue::B(Blob::new([0, 159, 255]));
        statement(update, [text("done"), nested, nonce, text(pk), number(fence), text("claimed")])
    };
    let answers = batch(&local, vec![finish("a", 1), finish("b", 7), finish("nobody", 1)]).await;

    assert_eq!(answers[0], None);
    let (code, old) = answers[1].clone().unwrap();
    assert_eq!(code, BatchStatementErrorCodeEnum::ConditionalCheckFailed);
    assert_eq!(old.unwrap()["state"], text("claimed"));
    let (code, old) = answers[2].clone().unwrap();
    assert_eq!((code, old), (BatchStatementErrorCodeEnum::ConditionalCheckFailed, None));

    let done = row(&local, "a").await.unwrap();
    assert_eq!(done["state"], text("done"));
    assert_eq!(done["nonce"], AttributeValue::B(Blob::new([0, 159, 255])));
    assert_eq!(done["result"].as_m().unwrap()["none"], AttributeValue::Null(true));
    assert!(row(&local, "nobody").await.is_none());
}

#[tokio::test]
async fn conditions_may_compare_and_ask_whether_an_attribute_is_missing() {
    let local = Local::start().await;
    for (condition, parameters) in [
        ("result IS MISSING", vec![]),
        ("attribute_not_exists(result)", vec![]),
        ("attribute_exists(fence)", vec![]),
        ("fence IS NOT MISSING", vec![]),
        ("fence < ?", vec![number(2)]),
        ("fence <= ? AND \"state\" <> ?", vec![number(1), text("done")]),
        ("(fence = ? OR \"state\" = ?)", vec![number(9), text("claimed")]),
        ("\"state\" IN [?, ?]", vec![text("claimed"), text("pending")]),
        ("NOT fence = ?", vec![number(3)]),
        ("begins_with(\"state\", ?)", vec![text("cla")]),
    ] {
        batch(&local, vec![insert("a")]).await;
        let update = format!(r#"UPDATE "toolfleet-calls" SET seen=? WHERE pk=? AND {condition}"#);
        let given = [text("yes"), text("a")].into_iter().chain(parameters);
        assert_eq!(batch(&local, vec![statement(&update, given)]).await, [None], "{condition}");
    }
}

#[tokio::test]
async fn an_update_may_count_up_and_delete_is_conditional_too() {
    let local = Local::start().await;
    batch(&local, vec![insert("a")]).await;
    let claim = r#"UPDATE "toolfleet-calls" SET fence=fence+? WHERE pk=? AND fence=?"#;
    assert_eq!(batch(&local, vec![statement(claim, [number(1), text("a"), number(1)])]).await, [None]);
    assert_eq!(row(&local, "a").await.unwrap()["fence"], number(2));
    let delete = r#"DELETE FROM "toolfleet-calls" WHERE pk=? AND fence=?"#;
    let (code, old) =
        batch(&local, vec![statement(delete, [text("a"), number(1)])]).await[0].clone().unwrap();
    assert_eq!(code, BatchStatementErrorCodeEnum::ConditionalCheckFailed);
    assert_eq!(old.unwrap()["fence"], number(2));
    assert_eq!(batch(&local, vec![statement(delete, [text("a"), number(2)])]).await, [None]);
    assert!(row(&local, "a").await.is_none());
}

#[tokio::test]
async fn an_insert_takes_a_whole_item_value_by_value() {
    let local = Local::start().await;
    let insert = r#"INSERT INTO "toolfleet-calls" VALUE {'pk': ?, 'nothing': ?, 'map': ?, 'bytes': ?, 'yes': ?, 'names': ?}"#;
    let values = [
        text("a"),
        AttributeValue::Null(true),
        AttributeValue::M(HashMap::from([("k".to_owned(), number(1))])),
        AttributeValue::B(Blob::new([1, 2])),
        AttributeValue::Bool(true),
        AttributeValue::Ss(vec!["x".to_owned(), "y".to_owned()]),
    ];
    assert_eq!(batch(&local, vec![statement(insert, values.clone())]).await, [None]);
    let stored = row(&local, "a").await.unwrap();
    for (name, value) in ["pk", "nothing", "map", "bytes", "yes", "names"].into_iter().zip(values) {
        assert_eq!(stored[name], value);
    }
}

#[tokio::test]
async fn tables_may_be_mixed_in_one_batch_of_writes() {
    let local = Local::start().await;
    let history = r#"INSERT INTO "toolfleet-history" VALUE {'pk': ?, 'sk': ?, 'session_pk': ?}"#;
    let entry = statement(history, [text("t#h"), text("1"), text("t#s")]);
    assert_eq!(batch(&local, vec![insert("a"), entry.clone()]).await, [None, None]);
    let again = batch(&local, vec![entry]).await;
    assert_eq!(again, [Some((BatchStatementErrorCodeEnum::DuplicateItem, None))]);
    let found = local
        .dynamodb
        .query()
        .table_name("toolfleet-history")
        .index_name("by_session")
        .key_condition_expression("session_pk = :s")
        .expression_attribute_values(":s", text("t#s"))
        .send()
        .await
        .unwrap();
    assert_eq!(found.items().len(), 1);
}

#[tokio::test]
async fn a_batch_of_selects_returns_each_item_or_none_in_order() {
    let local = Local::start().await;
    batch(&local, vec![insert("a"), insert("b")]).await;
    let select = |pk: &str| {
        BatchStatementRequest::builder()
            .statement(r#"SELECT * FROM "toolfleet-calls" WHERE pk=?"#)
            .parameters(text(pk))
            .consistent_read(true)
            .build()
            .unwrap()
    };
    let answer = try_batch(&local, vec![select("b"), select("nobody"), select("a")]).await.unwrap();
    let found: Vec<_> =
        answer.responses().iter().map(|found| found.item().map(|item| item["pk"].clone())).collect();
    assert_eq!(found, [Some(text("b")), None, Some(text("a"))]);
}

#[tokio::test]
async fn what_rejects_the_whole_batch_is_the_same_key_twice_reads_among_writes_and_more_than_25() {
    let local = Local::start().await;
    let select = statement(r#"SELECT * FROM "toolfleet-calls" WHERE pk=?"#, [text("z")]);
    for (statements, message) in [
        (vec![insert("a"), insert("a")], "duplicates"),
        (vec![insert("a"), select], "Read and write requests together"),
        ((0..26).map(|at| insert(&at.to_string())).collect(), "less than or equal to 25"),
    ] {
        let error = try_batch(&local, statements).await.unwrap_err();
        assert_eq!(error.code(), Some("ValidationException"));
        assert!(error.message().unwrap().contains(message), "{error:?}");
    }
    assert!(row(&local, "a").await.is_none());
    let most = (0..25).map(|at| insert(&at.to_string())).collect();
    assert!(batch(&local, most).await.iter().all(Option::is_none));
}

#[tokio::test]
async fn a_statement_that_is_wrong_fails_alone() {
    let local = Local::start().await;
    let nonsense = statement(r#"UPDATE "toolfleet-calls" SET WHERE pk=?"#, [text("x")]);
    let no_table = statement(r#"INSERT INTO "nowhere" VALUE {'pk': ?}"#, [text("x")]);
    let answers = batch(&local, vec![nonsense, insert("a"), no_table]).await;
    assert_eq!(answers[0].clone().unwrap().0, BatchStatementErrorCodeEnum::ValidationError);
    assert_eq!(answers[1], None);
    assert_eq!(answers[2].clone().unwrap().0, BatchStatementErrorCodeEnum::ResourceNotFound);
}
