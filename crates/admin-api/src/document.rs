//! The OpenAPI document: what the handlers say of themselves, completed with what all operations have in common.

use std::collections::BTreeMap;

use actix_web::{App, get, web::Json};
use utoipa::{
    OpenApi,
    openapi::{
        Components, Content, OpenApi as Document, PathItem, Ref, RefOr, Response, ResponseBuilder, Schema,
        path::Operation,
        schema::ArrayItems,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_actix_web::{AppExt, scope::scope, service_config::ServiceConfig};

use crate::{BASE_PATH, access::ReadOperator, error::ErrorBody, resources};

/// The name of the security scheme.
const SCHEME: &str = "operator_token";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Truerelay admin API",
        description = "What an operator may do: providers, pools, credentials, models, offers, prices, tenants, \
            virtual keys, credit and nodes, and looking at requests, the ledger and the audit log.\n\n\
            Every call needs an operator token; a token with the role `read_only` may only look. Money is a decimal \
            string in USD in fields named `*_usd`; instants are RFC 3339 text in fields named `*_at`; ids are prefixed \
            strings. Unknown fields are refused. Lists answer `data` and `next_cursor`. Every change leaves an audit \
            entry in the same transaction.",
        license(name = "Proprietary")
    ),
    components(schemas(ErrorBody)),
    tags(
        (name = "providers", description = "Companies and services that run models."),
        (name = "pools", description = "Sets of credentials of one provider, sold at one multiplier."),
        (name = "credentials", description = "Accounts with providers. Secrets go in and never come out."),
        (name = "models", description = "The public catalog. Write the slash of an id as `%2F` in a path."),
        (name = "offers", description = "Models served by pools."),
        (name = "prices", description = "The price book: versions that are only ever added."),
        (name = "tenants", description = "Customer organisations."),
        (name = "keys", description = "Virtual keys of tenants. A secret is shown once."),
        (name = "grants", description = "Credit that an operator gives, takes back or suspends."),
        (name = "ledger", description = "Balances, lots and transactions."),
        (name = "nodes", description = "Relay processes that write to the ledger."),
        (name = "requests", description = "What happened to every request, and what it cost."),
        (name = "incidents", description = "What went wrong, which requests it concerns, and what providers billed."),
        (name = "audit", description = "Who changed what."),
        (name = "operator tokens", description = "Access to this API."),
        (name = "meta", description = "This document.")
    )
)]
struct Base;

/// The OpenAPI 3.1 document of the admin API. The same on every call.
pub fn openapi() -> Document {
    let app = App::new().into_utoipa_app().openapi(Base::openapi());
    let (_, mut document) = app.service(scope(BASE_PATH).configure(resources)).split_for_parts();
    let components = document.components.get_or_insert_with(Components::new);
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An operator token, `op-tr-...`."))
        .build();
    components.add_security_scheme(SCHEME, SecurityScheme::Http(scheme));
    refer_to_rows(&mut components.schemas);
    for failure in FAILURES {
        components
            .responses
            .insert(failure.name.to_owned(), RefOr::T(failure.response()));
    }
    for (path, item) in &mut document.paths.paths {
        let has_ids = path.contains('{');
        for (is_write, operation) in operations(item) {
            complete(operation, is_write, has_ids);
        }
    }
    document
}

/// Lets pages refer to the schema of their rows, of which they have a copy each.
fn refer_to_rows(schemas: &mut BTreeMap<String, RefOr<Schema>>) {
    for (name, schema) in schemas {
        let (Some(row), RefOr::T(Schema::Object(page))) = (name.strip_prefix("Page_"), schema) else {
            continue;
        };
        if let Some(RefOr::T(Schema::Array(data))) = page.properties.get_mut("data") {
            data.items = ArrayItems::RefOrSchema(Box::new(RefOr::Ref(Ref::from_schema_name(row))));
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (bool, &mut Operation)> {
    let PathItem {
        get,
        post,
        put,
        patch,
        delete,
        ..
    } = item;
    let reads = get.iter_mut().map(|operation| (false, operation));
    let writes = [post, put, patch, delete]
        .into_iter()
        .flatten()
        .map(|operation| (true, operation));
    reads.chain(writes)
}

/// Adds the role that the operation needs and the failures that it may answer.
fn complete(operation: &mut Operation, is_write: bool, has_ids: bool) {
    // an operation that only looks and needs the role `full` all the same says so itself
    let needs_full = is_write || operation.security.is_some();
    let role = if needs_full { "full" } else { "read_only" };
    operation.security = Some(vec![SecurityRequirement::new(SCHEME, [role])]);
    for failure in FAILURES {
        let applies = match failure.applies {
            Applies::Always => true,
            Applies::ToFull => needs_full,
            Applies::ToWrites => is_write,
            Applies::ToIds => has_ids || is_write,
            Applies::ToBodies => operation.request_body.is_some(),
        };
        if applies {
            let reference = RefOr::Ref(Ref::from_response_name(failure.name));
            operation
                .responses
                .responses
                .insert(failure.status.to_owned(), reference);
        }
    }
}

/// To which operations a failure belongs.
enum Applies {
    Always,
    ToFull,
    ToWrites,
    ToIds,
    ToBodies,
}

/// A failure as the document shows it.
struct Failure {
    status: &'static str,
    name: &'static str,
    description: &'static str,
    applies: Applies,
}

impl Failure {
    const fn new(status: &'static str, name: &'static str, description: &'static str, applies: Applies) -> Self {
        Self {
            status,
            name,
            description,
            applies,
        }
    }

    fn response(&self) -> Response {
        let body = Content::new(Some(Ref::from_schema_name("ErrorBody")));
        ResponseBuilder::new()
            .description(self.description)
            .content("application/json", body)
            .build()
    }
}

const FAILURES: &[Failure] = &[
    Failure::new(
        "400",
        "InvalidInput",
        "A field, a parameter or a header is not acceptable.",
        Applies::Always,
    ),
    Failure::new(
        "401",
        "Unauthenticated",
        "The operator token is missing or not valid.",
        Applies::Always,
    ),
    Failure::new("403", "Forbidden", "The operator token may read only.", Applies::ToFull),
    Failure::new("404", "NotFound", "There is no such object.", Applies::ToIds),
    Failure::new(
        "409",
        "Conflict",
        "A name is taken, or other objects forbid the change.",
        Applies::ToWrites,
    ),
    Failure::new(
        "413",
        "BodyTooLarge",
        "The body is larger than 1 MiB.",
        Applies::ToBodies,
    ),
    Failure::new(
        "415",
        "UnsupportedMediaType",
        "The body is not JSON.",
        Applies::ToBodies,
    ),
    Failure::new(
        "422",
        "RuleBroken",
        "The input is well formed and breaks a rule.",
        Applies::ToBodies,
    ),
    Failure::new("500", "InternalError", "The server failed.", Applies::Always),
    Failure::new(
        "503",
        "Unavailable",
        "The database is busy or away: try again.",
        Applies::Always,
    ),
];

/// This document.
#[utoipa::path(tag = "meta", responses((status = 200, body = Object, description = "The OpenAPI document.")))]
#[get("/openapi.json")]
async fn get_openapi(_operator: ReadOperator) -> Json<Document> {
    Json(openapi())
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(get_openapi);
}
