//! Validators that the ledger's measurements ask for.

use duty::PublicKey;
use slashing::{
    database::Database,
    ledger::{self, InitialHistory},
};

/// The key of one of them.
pub(crate) fn validator(number: u16) -> PublicKey {
    let mut key = [0; 48];
    // Neighbours in time are none in the table.
    key[..2].copy_from_slice(&number.wrapping_mul(40_503).to_be_bytes());
    PublicKey(key)
}

/// Registers so many, of whom nothing was ever signed.
pub(crate) async fn register(database: &Database, validators: u16) {
    let history = InitialHistory::NeverSigned;
    match database {
        Database::Sqlite(database) => {
            let call = database.call(move |connection| {
                let transaction = connection.transaction().unwrap();
                for number in 0..validators {
                    ledger::sqlite::register(&transaction, validator(number), &history).unwrap();
                }
                transaction.commit().unwrap();
            });
            call.await.unwrap();
        }
        Database::Postgres(database) => {
            let mut client = database.client().await.unwrap();
            let transaction = client.transaction().await.unwrap();
            for number in 0..validators {
                let key = validator(number);
                ledger::postgres::register(&transaction, key, &history)
                    .await
                    .unwrap();
            }
            transaction.commit().await.unwrap();
        }
    }
}
