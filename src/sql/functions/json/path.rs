//! Paths into JSON: `lax $.a.b[0]['c d'][*]`.

use super::tree::Json;

/// A path, taken apart once.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    steps: Vec<Step>,
    /// What is not there is an error.
    pub strict: bool,
    /// Whether there is one place at most: no `[*]`.
    pub definite: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    /// From the end where it is negative.
    Item(i64),
    All,
}

/// What a path leads to.
#[derive(Debug, PartialEq)]
pub enum Found {
    Nothing,
    One(Json),
}

impl Path {
    /// Reads a path, or says why it cannot be one.
    pub fn compile(text: &str) -> Result<Path, String> {
        let trimmed = text.trim();
        let behind = |word: &str| {
            let first = trimmed.get(..word.len())?;
            first
                .eq_ignore_ascii_case(word)
                .then(|| &trimmed[word.len()..])
        };
        let (strict, rest) = match (behind("strict"), behind("lax")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => (false, trimmed),
        };
        let wrong = |why: &str| {
            Err(format!(
                "the path '{text}' cannot be used: {why}; a path is $, .name, ['name'], [number] and [*], with lax or strict before it"
            ))
        };
        let Some(mut rest) = rest.trim_start().strip_prefix('$') else {
            return wrong("it does not begin with $");
        };
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                let name = &after[..end];
                if name.is_empty() {
                    return wrong("a name is missing behind a dot");
                }
                if name.contains(['*', '"', '\'', '(', ')', '?', ' ', ']']) {
                    return wrong(&format!("'{name}' is no plain name"));
                }
                steps.push(Step::Field(name.to_owned()));
                rest = &after[end..];
            } else if let Some(after) = rest.strip_prefix('[') {
                let after = after.trim_start();
                let quote = after.chars().next().filter(|c| matches!(c, '\'' | '"'));
                let (step, behind) = match quote {
                    Some(quote) => {
                        let Some(end) = after[1..].find(quote) else {
                            return wrong("a name in quotes does not end");
                        };
                        (Step::Field(after[1..=end].to_owned()), &after[end + 2..])
                    }
                    None => {
                        let end = after.find(']').unwrap_or(after.len());
                        let step = match after[..end].trim() {
                            "*" => Step::All,
                            number => match number.parse() {
                                Ok(number) => Step::Item(number),
                                Err(_) => return wrong(&format!("[{number}] is not supported")),
                            },
                        };
                        (step, &after[end..])
                    }
                };
                let Some(behind) = behind.trim_start().strip_prefix(']') else {
                    return wrong("a ] is missing");
                };
                steps.push(step);
                rest = behind;
            } else {
                return wrong("a dot or a [ is missing");
            }
        }
        Ok(Path {
            definite: !steps.contains(&Step::All),
            steps,
            strict,
        })
    }

    /// What it leads to; all of it as an array where there can be several. NULL is as if it were not there.
    pub fn find(&self, json: Json) -> Found {
        let mut found = vec![json];
        for step in &self.steps {
            found = found.into_iter().flat_map(|json| step.of(json)).collect();
        }
        match self.definite {
            false => Found::One(Json::Array(found)),
            true => found.pop().map_or(Found::Nothing, Found::One),
        }
    }
}

impl Step {
    fn of(&self, json: Json) -> Vec<Json> {
        match (self, json) {
            (Step::Field(name), Json::Object(mut fields)) => {
                fields.remove(name).into_iter().collect()
            }
            (Step::Item(at), Json::Array(mut items)) => {
                let at = if *at < 0 {
                    at + items.len() as i64
                } else {
                    *at
                };
                match usize::try_from(at) {
                    Ok(at) if at < items.len() => vec![items.swap_remove(at)],
                    _ => Vec::new(),
                }
            }
            (Step::All, Json::Array(items)) => items,
            (Step::All, Json::Object(fields)) => fields.into_values().collect(),
            _ => Vec::new(),
        }
    }
}
