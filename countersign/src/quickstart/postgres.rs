//! One database per cosigner on the Postgres server that the user names.

use anyhow::{Context, ensure};
use tokio_postgres::{Config, NoTls, config::SslMode};
use zeroize::Zeroizing;

/// The name of cosigner `number`'s database.
pub(super) fn database_name(number: u64) -> String {
    format!("countersign_quickstart_{number}")
}

/// The server's URL, with another database.
pub(super) fn with_database(url: &str, database: &str) -> anyhow::Result<String> {
    let (base, options) = url
        .split_once('?')
        .map_or((url, None), |(base, o)| (base, Some(o)));
    let authority = base
        .find("://")
        .and_then(|at| at.checked_add(3))
        .context("--postgres takes a URL such as postgres://postgres@127.0.0.1:5432/postgres")?;
    let end = base
        .get(authority..)
        .and_then(|rest| rest.find('/'))
        .and_then(|at| at.checked_add(authority))
        .unwrap_or(base.len());
    let server = base.get(..end).unwrap_or(base);
    Ok(match options {
        Some(options) => format!("{server}/{database}?{options}"),
        None => format!("{server}/{database}"),
    })
}

/// The URL without its password, and the password.
pub(super) fn without_password(url: &str) -> anyhow::Result<(String, Option<Zeroizing<String>>)> {
    let config: Config = url.parse().context("--postgres is no connection URL")?;
    let Some(password) = config.get_password() else {
        return Ok((url.to_owned(), None));
    };
    let password = std::str::from_utf8(password).context("the password is not UTF-8")?;
    let stripped = url.split_once("://").and_then(|(scheme, rest)| {
        let (user_info, host) = rest.split_once('@')?;
        let (user, _) = user_info.split_once(':')?;
        Some(format!("{scheme}://{user}@{host}"))
    });
    let stripped =
        stripped.context("--postgres takes a password only as postgres://USER:PASSWORD@…")?;
    Ok((stripped, Some(Zeroizing::new(password.to_owned()))))
}

/// Creates a database that must not exist yet.
pub(super) async fn create_database(
    url: &str,
    password: Option<&str>,
    database: &str,
) -> anyhow::Result<()> {
    let mut config: Config = url.parse().context("--postgres is no connection URL")?;
    if let Some(password) = password {
        config.password(password);
    }
    ensure!(
        config.get_ssl_mode() != SslMode::Require,
        "quickstart reaches Postgres without TLS: use a server on this machine"
    );
    let (client, connection) = config
        .connect(NoTls)
        .await
        .with_context(|| format!("{url} cannot be reached"))?;
    let connection = tokio::spawn(connection);
    // The name is ours: letters, digits and underscores.
    client
        .batch_execute(&format!("CREATE DATABASE {database}"))
        .await
        .with_context(|| {
            format!(
                "{database} could not be created: drop it if an earlier quickstart left it behind"
            )
        })?;
    drop(client);
    connection.await??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_a_url_is_replaced() {
        for (url, expected) in [
            ("postgres://u@h:5432/postgres", "postgres://u@h:5432/new"),
            ("postgres://u@h", "postgres://u@h/new"),
            (
                "postgresql://h/a?sslmode=disable",
                "postgresql://h/new?sslmode=disable",
            ),
            ("postgres:///x?host=/tmp", "postgres:///new?host=/tmp"),
        ] {
            assert_eq!(with_database(url, "new").unwrap(), expected);
        }
        assert!(with_database("host=h user=u", "new").is_err());
    }

    #[test]
    fn a_password_is_taken_out_of_a_url() {
        let (url, password) = without_password("postgres://u:p%40ss@h:1/d").unwrap();
        assert_eq!(url, "postgres://u@h:1/d");
        assert_eq!(password.unwrap().as_str(), "p@ss");
        let (url, password) = without_password("postgres://u@h/d").unwrap();
        assert_eq!(
            (url.as_str(), password.is_none()),
            ("postgres://u@h/d", true)
        );
    }
}
