//! How many standbys a server's `synchronous_standby_names` makes a commit wait for.
//!
//! The grammar is that of PostgreSQL's `syncrep_gram.y` and `syncrep_scanner.l`: nothing,
//! `list`, `N (list)`, `FIRST N (list)` or `ANY N (list)`; a list is of names, numbers and `*`,
//! with commas; a name may be quoted.

use std::{iter::Peekable, str::Chars};

/// How many standbys a commit waits for.
///
/// # Errors
/// A clause that says what is not understood: what a commit waits for is not known then.
pub(super) fn awaited(names: &str) -> Result<u32, String> {
    let tokens = Tokens(names.chars().peekable()).collect::<Result<Vec<_>, _>>()?;
    let not_understood = || {
        Err(format!(
            "synchronous_standby_names = '{names}' is not understood"
        ))
    };
    match tokens.as_slice() {
        [] => Ok(0),
        [
            Token::Word(method),
            Token::Number(count),
            Token::Open,
            list @ ..,
            Token::Close,
        ] if ["first", "any"].contains(&method.to_ascii_lowercase().as_str()) && is_list(list) => {
            Ok(*count)
        }
        [Token::Number(count), Token::Open, list @ .., Token::Close] if is_list(list) => Ok(*count),
        list if is_list(list) => Ok(1),
        _ => not_understood(),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// A keyword or a name.
    Word(String),
    /// A name in quotes, or `*`: no keyword.
    Name,
    Number(u32),
    Comma,
    Open,
    Close,
}

/// Whether these are names with a comma between each two.
fn is_list(tokens: &[Token]) -> bool {
    let is_name = |token: &Token| match token {
        Token::Word(word) => !["first", "any"].contains(&word.to_ascii_lowercase().as_str()),
        Token::Name | Token::Number(_) => true,
        Token::Comma | Token::Open | Token::Close => false,
    };
    !tokens.is_empty()
        && tokens.chunks(2).all(|chunk| match chunk {
            [name, comma] => is_name(name) && *comma == Token::Comma,
            [name] => is_name(name),
            _ => false,
        })
        && tokens.len() % 2 == 1
}

struct Tokens<'a>(Peekable<Chars<'a>>);

impl Tokens<'_> {
    fn run(&mut self, first: char, goes_on: impl Fn(char) -> bool) -> String {
        let mut run = first.to_string();
        while let Some(next) = self.0.next_if(|next| goes_on(*next)) {
            run.push(next);
        }
        run
    }

    /// The rest of a quoted name. Two quotes are one of the name's own.
    fn quoted(&mut self) -> Result<Token, String> {
        while let Some(next) = self.0.next() {
            if next == '"' && self.0.next_if_eq(&'"').is_none() {
                return Ok(Token::Name);
            }
        }
        Err("synchronous_standby_names has a quote that does not end".to_owned())
    }
}

impl Iterator for Tokens<'_> {
    type Item = Result<Token, String>;

    fn next(&mut self) -> Option<Self::Item> {
        while self
            .0
            .next_if(|next| " \t\n\r\u{c}\u{b}".contains(*next))
            .is_some()
        {}
        let starts_word =
            |next: char| next.is_ascii_alphabetic() || next == '_' || !next.is_ascii();
        Some(match self.0.next()? {
            ',' => Ok(Token::Comma),
            '(' => Ok(Token::Open),
            ')' => Ok(Token::Close),
            '*' => Ok(Token::Name),
            '"' => self.quoted(),
            first if first.is_ascii_digit() => {
                let number = self.run(first, |next| next.is_ascii_digit());
                number
                    .parse()
                    .map(Token::Number)
                    .map_err(|error| format!("synchronous_standby_names: {number}: {error}"))
            }
            first if starts_word(first) => Ok(Token::Word(self.run(first, |next| {
                starts_word(next) || next.is_ascii_digit() || next == '$'
            }))),
            other => Err(format!(
                "synchronous_standby_names has an unknown {other:?}"
            )),
        })
    }
}

#[cfg(test)]
mod tests;
