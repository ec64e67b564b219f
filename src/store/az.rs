//! Azure Blob Storage, also under a hierarchical namespace (Data Lake Storage).
//!
//! Settings come from the environment, under the names that Azure's tools use: the account is in the address
//! (`abfss://container@account.dfs.core.windows.net/..`), or is AZURE_STORAGE_ACCOUNT_NAME or AZURE_STORAGE_ACCOUNT. Credentials are
//! AZURE_STORAGE_CONNECTION_STRING, an account's key, a shared access signature, those of Entra ID (AZURE_CLIENT_ID, AZURE_TENANT_ID and a
//! secret, or the token file of a workload identity), else the machine's managed identity. AZURE_STORAGE_USE_EMULATOR speaks to Azurite.

use super::cloud::{Buckets, Cloud, LastResort, client, retry, said};
use crate::error::{Error, Result};
use object_store::azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::{Error as StoreError, ObjectStore};
use std::sync::Arc;

pub(super) static AZURE: Cloud = Cloud {
    name: "Azure",
    scheme: "az",
    // Not every account knows how; some answer with nothing, and under a hierarchical namespace the order is another.
    lists_behind: false,
    swaps_copies: false,
    advice,
};

/// Of two names for one setting the later one holds.
const SETTINGS: [(&str, AzureConfigKey); 18] = [
    ("AZURE_STORAGE_ACCOUNT", AzureConfigKey::AccountName),
    ("AZURE_STORAGE_ACCOUNT_NAME", AzureConfigKey::AccountName),
    ("AZURE_STORAGE_KEY", AzureConfigKey::AccessKey),
    ("AZURE_STORAGE_ACCESS_KEY", AzureConfigKey::AccessKey),
    ("AZURE_STORAGE_ACCOUNT_KEY", AzureConfigKey::AccessKey),
    ("AZURE_STORAGE_SAS_KEY", AzureConfigKey::SasKey),
    ("AZURE_STORAGE_SAS_TOKEN", AzureConfigKey::SasKey),
    ("AZURE_STORAGE_TOKEN", AzureConfigKey::Token),
    ("AZURE_STORAGE_ENDPOINT", AzureConfigKey::Endpoint),
    ("AZURE_STORAGE_USE_EMULATOR", AzureConfigKey::UseEmulator),
    ("AZURE_CLIENT_ID", AzureConfigKey::ClientId),
    ("AZURE_CLIENT_SECRET", AzureConfigKey::ClientSecret),
    ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId),
    ("AZURE_AUTHORITY_HOST", AzureConfigKey::AuthorityHost),
    (
        "AZURE_FEDERATED_TOKEN_FILE",
        AzureConfigKey::FederatedTokenFile,
    ),
    ("AZURE_USE_AZURE_CLI", AzureConfigKey::UseAzureCli),
    ("AZURE_MSI_RESOURCE_ID", AzureConfigKey::MsiResourceId),
    ("IDENTITY_ENDPOINT", AzureConfigKey::MsiEndpoint),
];
const CONNECTION: &str = "AZURE_STORAGE_CONNECTION_STRING";
/// What the address has in it where a machine of Azure's tells who it is.
const METADATA: &str = "/metadata/identity/";

/// A container, and its account where the address says it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Container {
    name: String,
    account: Option<String>,
}

impl Container {
    /// Of `container`, or of `container@account.dfs.core.windows.net`.
    pub fn of(url: &str, authority: &str) -> Result<Container> {
        let Some((name, host)) = authority.split_once('@') else {
            return Ok(Container {
                name: authority.to_owned(),
                account: None,
            });
        };
        let known = ["dfs.core.windows.net", "blob.core.windows.net"];
        match host.split_once('.') {
            Some((account, domain)) if known.contains(&domain) && !name.is_empty() => {
                Ok(Container {
                    name: name.to_owned(),
                    account: Some(account.to_owned()),
                })
            }
            _ => Err(Error::job(format!(
                "{url}: write abfss://container@account.dfs.core.windows.net/path, or az://container/path and \
                 AZURE_STORAGE_ACCOUNT_NAME in the environment"
            ))),
        }
    }

    /// As a store.
    pub fn open(self) -> Result<Arc<dyn ObjectStore>> {
        static CONTAINERS: Buckets<Container> = Buckets::new();
        CONTAINERS.open(self, |container| {
            let store = build(container, &|name| std::env::var(name).ok())?;
            Ok(AZURE.bucket(&container.name, store))
        })
    }
}

fn build(container: &Container, env: &dyn Fn(&str) -> Option<String>) -> Result<MicrosoftAzure> {
    let name = &container.name;
    let refuse = |what: &str| Error::job(format!("az://{name}: {what}"));
    let env = said(env);
    let mut settings: Vec<(AzureConfigKey, String)> = Vec::new();
    if let Some(text) = env(CONNECTION) {
        settings.extend(connection(&text).map_err(|what| refuse(&what))?);
        let account = settings
            .iter()
            .find(|(key, _)| *key == AzureConfigKey::AccountName);
        if let (Some((_, theirs)), Some(ours)) = (account, &container.account)
            && theirs != ours
        {
            let what = format!("the account is {ours:?}, and {CONNECTION} is for {theirs:?}");
            return Err(refuse(&what));
        }
    }
    settings.extend(SETTINGS.iter().filter_map(|(name, key)| {
        let value = env(name)?;
        let address = [AzureConfigKey::Endpoint, AzureConfigKey::AuthorityHost].contains(key);
        let value = match address {
            true => value.trim_end_matches('/').to_owned(),
            false => value,
        };
        Some((*key, value))
    }));
    settings.extend(
        container
            .account
            .iter()
            .map(|account| (AzureConfigKey::AccountName, account.clone())),
    );
    let of = |wanted: AzureConfigKey| {
        let found = settings.iter().rfind(|(key, _)| *key == wanted);
        found.map(|(_, value)| value.as_str())
    };
    let emulator = of(AzureConfigKey::UseEmulator)
        .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"));
    let endpoint = of(AzureConfigKey::Endpoint);
    if of(AzureConfigKey::AccountName).is_none() && !emulator {
        return Err(refuse(
            "the storage account is not named: set AZURE_STORAGE_ACCOUNT_NAME, or write abfss://container@account.dfs.core.windows.net/path",
        ));
    }
    let path = endpoint.and_then(|url| url.split_once("://")?.1.split_once('/'));
    if path.is_some() && !emulator {
        return Err(refuse(
            "the endpoint has the account in its path, as Azurite's has: set AZURE_STORAGE_USE_EMULATOR=true and \
             AZURITE_BLOB_STORAGE_URL=http://127.0.0.1:10000 in its place",
        ));
    }
    let plain = endpoint.is_some_and(|url| url.starts_with("http://"));
    let builder = MicrosoftAzureBuilder::new()
        .with_container_name(name)
        .with_retry(retry())
        .with_client_options(client(plain));
    let builder = settings.into_iter().fold(builder, |builder, (key, value)| {
        builder.with_config(key, value)
    });
    let unusable = |error| {
        Error::job(format!("az://{name}: the settings of Azure cannot be used")).caused_by(error)
    };
    // Built twice: the first one finds out where the credentials come from.
    let found = builder.clone().build().map_err(unusable)?;
    let credentials = LastResort::of(found.credentials(), METADATA);
    builder
        .with_credentials(credentials)
        .build()
        .map_err(unusable)
}

/// What a connection string says: `Name=value;Name=value`.
fn connection(text: &str) -> Result<Vec<(AzureConfigKey, String)>, String> {
    let mut parts = std::collections::BTreeMap::new();
    for part in text.split(';').filter(|part| !part.trim().is_empty()) {
        // The part may be a secret, so it is not shown.
        let (name, value) = part.split_once('=').ok_or_else(|| {
            format!("{CONNECTION} cannot be read: it is made of Name=value;Name=value")
        })?;
        parts.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
    }
    if parts
        .get("usedevelopmentstorage")
        .is_some_and(|value| value == "true")
    {
        return Ok(vec![(AzureConfigKey::UseEmulator, "true".into())]);
    }
    let account = parts
        .remove("accountname")
        .ok_or_else(|| format!("{CONNECTION} names no account: it needs AccountName=.."))?;
    let endpoint = parts.remove("blobendpoint").or_else(|| {
        let suffix = parts.get("endpointsuffix")?;
        let protocol = parts
            .get("defaultendpointsprotocol")
            .map_or("https", String::as_str);
        Some(format!("{protocol}://{account}.blob.{suffix}"))
    });
    let settings = [
        (AzureConfigKey::AccountName, Some(account)),
        (AzureConfigKey::AccessKey, parts.remove("accountkey")),
        (
            AzureConfigKey::SasKey,
            parts.remove("sharedaccesssignature"),
        ),
        (
            AzureConfigKey::Endpoint,
            endpoint.map(|url| url.trim_end_matches('/').to_owned()),
        ),
    ];
    let settings = settings.into_iter();
    Ok(settings
        .filter_map(|(key, value)| Some((key, value?)))
        .collect())
}

/// What to do about a refusal.
fn advice(container: &str, error: &StoreError) -> String {
    let text = error.to_string();
    let says = |code: &str| text.contains(code);
    if says("ContainerNotFound") {
        format!("there is no container {container:?}: make it, or correct the path in the job")
    } else if says("token request") && !says(METADATA) {
        format!(
            "Entra ID does not accept the credentials for container {container:?}: check AZURE_CLIENT_ID, AZURE_TENANT_ID, and the secret \
             or the token file"
        )
    } else if says("AuthenticationFailed") || says("InvalidAuthenticationInfo") {
        format!(
            "the account of container {container:?} does not accept the credentials: check AZURE_STORAGE_ACCOUNT_NAME and its key or \
             signature, and this machine's clock"
        )
    } else if matches!(error, StoreError::Unauthenticated { .. }) {
        format!(
            "there are no credentials for container {container:?}: set AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN, or \
             AZURE_CLIENT_ID and what belongs to it, or give the machine a managed identity"
        )
    } else if matches!(error, StoreError::PermissionDenied { .. }) || says("(code: 403)") {
        format!(
            "access to container {container:?} was denied: give these credentials the role 'Storage Blob Data Contributor' on it (of a \
             signature: read, write, delete and list), and let the account's firewall let this machine in"
        )
    } else {
        format!("container {container:?} refused a request")
    }
}

/// The container on the server that the tests are given; a store of its own for each test, because connections end with a test's runtime.
#[cfg(test)]
pub(super) fn test_container(name: &str) -> Arc<dyn ObjectStore> {
    let container = Container::of("", name).expect("a container");
    let store = build(&container, &|name| std::env::var(name).ok());
    AZURE.bucket(
        name,
        store.expect("the environment of the tests names a server"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "c2VjcmV0";

    fn with(authority: &str, keys: &[(&str, &str)]) -> Result<MicrosoftAzure> {
        let container = Container::of("abfss://..", authority)?;
        build(&container, &|name| {
            let found = keys.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn settings_come_from_the_address_and_the_environment() {
        let string = format!(
            "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={KEY};EndpointSuffix=core.windows.net"
        );
        for (authority, keys) in [
            ("lake@acme.dfs.core.windows.net", vec![]),
            (
                "lake@acme.blob.core.windows.net",
                vec![("AZURE_STORAGE_ACCOUNT_NAME", "other")],
            ),
            ("lake", vec![("AZURE_STORAGE_ACCOUNT", "acme")]),
            ("lake", vec![(CONNECTION, &string)]),
            (
                "lake",
                vec![
                    ("AZURE_STORAGE_ACCOUNT_NAME", "acme"),
                    ("AZURE_STORAGE_ACCOUNT_KEY", KEY),
                    ("AZURE_STORAGE_ENDPOINT", "https://acme.privatelink.net/"),
                ],
            ),
            (
                "lake",
                vec![
                    ("AZURE_STORAGE_ACCOUNT_NAME", "acme"),
                    ("AZURE_CLIENT_ID", "id"),
                    ("AZURE_TENANT_ID", "tenant"),
                    ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/token"),
                ],
            ),
        ] {
            let built = with(authority, &keys).unwrap().to_string();
            let expected = "MicrosoftAzure { account: acme, container: lake }";
            assert_eq!(built, expected, "{authority} {keys:?}");
        }
        let emulator = with("lake", &[(CONNECTION, "UseDevelopmentStorage=true")]).unwrap();
        assert!(emulator.to_string().contains("devstoreaccount1"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_and_no_secret_is_shown() {
        let azurite = "http://127.0.0.1:10000/devstoreaccount1";
        for (authority, keys, says) in [
            ("lake", vec![], "set AZURE_STORAGE_ACCOUNT_NAME"),
            ("lake@acme.example.org", vec![], "write abfss://container@"),
            (
                "@acme.dfs.core.windows.net",
                vec![],
                "write abfss://container@",
            ),
            ("lake", vec![(CONNECTION, "c2VjcmV0")], "Name=value"),
            (
                "lake",
                vec![(CONNECTION, "AccountKey=c2VjcmV0")],
                "needs AccountName",
            ),
            (
                "lake@acme.dfs.core.windows.net",
                vec![(CONNECTION, "AccountName=other;AccountKey=c2VjcmV0")],
                "is for \"other\"",
            ),
            (
                "lake@acme.dfs.core.windows.net",
                vec![("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0!")],
                "cannot be used",
            ),
            (
                "lake@devstoreaccount1.dfs.core.windows.net",
                vec![("AZURE_STORAGE_ENDPOINT", azurite)],
                "AZURE_STORAGE_USE_EMULATOR=true",
            ),
        ] {
            let error = with(authority, &keys).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
            assert!(error.to_string().contains(says), "{error}");
            assert!(!error.to_string().contains(KEY), "{error}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let denied = |source: &str| StoreError::PermissionDenied {
            path: "x".into(),
            source: source.into(),
        };
        let wrong = denied("403: <Code>AuthenticationFailed</Code>");
        assert!(advice("lake", &wrong).contains("this machine's clock"));
        let role = denied("403: <Code>AuthorizationPermissionMismatch</Code>");
        assert!(advice("lake", &role).contains("Storage Blob Data Contributor"));
        let nobody = StoreError::Unauthenticated {
            path: "credentials".into(),
            source: "Error performing token request: GET http://169.254.169.254/metadata/identity/oauth2/token".into(),
        };
        assert!(advice("lake", &nobody).contains("a managed identity"));
        let refused = StoreError::Generic {
            store: "MicrosoftAzure",
            source: "Error performing token request: POST https://login - status code: 401".into(),
        };
        assert!(advice("lake", &refused).contains("AZURE_TENANT_ID"));
    }
}
