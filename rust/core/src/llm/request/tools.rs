//! The names of the tools a request offers, in every dialect's form.

use super::super::json::{Cursor, Fault};
use super::super::Dialect;
use super::{chosen, object, owned, Peek};

impl Peek {
    /// Collects the names of tools; their definitions are part of the prompt.
    pub(super) fn tools(&mut self, dialect: Dialect, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        self.prompt.structure(&mut cursor.clone())?;
        let tools = &mut self.tools;
        cursor.elements(|cursor| {
            let mut tool = Tool::default();
            object(dialect, cursor, |name, cursor| {
                match (dialect, name) {
                    (Dialect::Gemini, "functionDeclarations") => {
                        cursor.elements(|cursor| {
                            object(dialect, cursor, |name, cursor| {
                                if name == "name" {
                                    tools.extend(chosen(cursor)?.map(|text| text.decode().into_owned()));
                                }
                                Ok(())
                            })?;
                            Ok(())
                        })?;
                    }
                    // Built-in ones are members: `{"googleSearch": {}}`.
                    (Dialect::Gemini, name) => tools.push(name.to_owned()),
                    (_, "name") => tool.name = owned(chosen(cursor)?),
                    (_, "type") => tool.kind = owned(chosen(cursor)?),
                    (_, "function" | "custom" | "toolSpec") => {
                        object(dialect, cursor, |name, cursor| {
                            if name == "name" {
                                tool.inner = owned(chosen(cursor)?);
                            }
                            Ok(())
                        })?;
                    }
                    _ => {}
                }
                Ok(())
            })?;
            if dialect != Dialect::Gemini {
                tools.extend(tool.inner.or(tool.name).or(tool.kind));
            }
            Ok(())
        })?;
        Ok(())
    }
}

#[derive(Default)]
struct Tool {
    inner: Option<String>,
    name: Option<String>,
    kind: Option<String>,
}
