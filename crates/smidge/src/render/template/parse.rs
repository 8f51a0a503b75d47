//! Tokens to a tree.

use serde_json::Value;

use super::TemplateError;
use super::lex::{Kind, Piece, Token, pieces};

/// What a template is made of.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    If(Branch),
    With(Branch),
    Range(Branch),
    Break,
    Continue,
}

/// A condition, what happens when it holds, and what happens otherwise.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) subject: Pipeline,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

/// `$a, $b := command | command`.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) variables: Vec<String>,
    /// Whether the variables are new (`:=`) or existing ones (`=`).
    pub(super) declares: bool,
    pub(super) commands: Vec<Command>,
}

/// A value, or a function and its arguments.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) terms: Vec<Term>,
    pub(super) span: (usize, usize),
}

/// An operand, and the fields taken from it.
#[derive(Debug)]
pub(super) struct Term {
    pub(super) base: Base,
    pub(super) fields: Vec<String>,
    pub(super) span: (usize, usize),
}

/// Where a term starts.
#[derive(Debug)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Literal(Value),
    Function(String),
    Group(Box<Pipeline>),
}

/// Nesting beyond this is refused: the tree is walked recursively.
const DEPTH: usize = 64;

/// Parses a whole template.
pub(super) fn nodes(text: &str) -> Result<Vec<Node>, TemplateError> {
    let mut pieces = pieces(text)?.into_iter();
    let (nodes, end) = block(&mut pieces, 0)?;
    match end {
        Close::Template => Ok(nodes),
        Close::Else(_, span) => Err(TemplateError::new(
            span,
            "`else` without `if`, `with` or `range`",
        )),
        Close::End(span) => Err(TemplateError::new(
            span,
            "`end` without `if`, `with` or `range`",
        )),
    }
}

/// What ended a block.
enum Close {
    Template,
    /// `else`, or `else if …` with the tokens from `if` on.
    Else(Vec<Token>, (usize, usize)),
    End((usize, usize)),
}

type Pieces<'t> = std::vec::IntoIter<Piece<'t>>;

fn block(pieces: &mut Pieces<'_>, depth: usize) -> Result<(Vec<Node>, Close), TemplateError> {
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let (tokens, span) = match piece {
            Piece::Text("") => continue,
            Piece::Text(text) => {
                nodes.push(Node::Text(text.to_owned()));
                continue;
            }
            Piece::Action(tokens, span) => (tokens, span),
        };
        if depth > DEPTH {
            return Err(TemplateError::new(span, "nested too deeply"));
        }
        match tokens.first().map(|token| &token.kind) {
            // A comment.
            None => {}
            Some(Kind::Word(word)) => match word.as_str() {
                "if" | "with" | "range" => nodes.push(branch(tokens, span, pieces, depth)?),
                "else" => return Ok((nodes, Close::Else(tokens[1..].to_vec(), span))),
                "end" => return Ok((nodes, Close::End(span))),
                "break" => nodes.push(Node::Break),
                "continue" => nodes.push(Node::Continue),
                _ => nodes.push(Node::Print(whole_pipeline(&tokens, span)?)),
            },
            Some(_) => nodes.push(Node::Print(whole_pipeline(&tokens, span)?)),
        }
    }
    Ok((nodes, Close::Template))
}

fn branch(
    tokens: Vec<Token>,
    span: (usize, usize),
    pieces: &mut Pieces<'_>,
    depth: usize,
) -> Result<Node, TemplateError> {
    let word = match &tokens[0].kind {
        Kind::Word(word) => word.clone(),
        _ => String::new(),
    };
    let subject = whole_pipeline(&tokens[1..], span)?;
    let (body, end) = block(pieces, depth + 1)?;
    let unclosed = || TemplateError::new(span, format!("this `{word}` has no `{{{{end}}}}`"));
    let otherwise = match end {
        Close::End(_) => Vec::new(),
        Close::Template => return Err(unclosed()),
        Close::Else(tokens, else_span) if tokens.is_empty() => match block(pieces, depth + 1)? {
            (nodes, Close::End(_)) => nodes,
            (_, Close::Template) => return Err(unclosed()),
            (_, Close::Else(..)) => {
                return Err(TemplateError::new(
                    else_span,
                    "a second `else` follows this one",
                ));
            }
        },
        // `else if` needs no `end` of its own.
        Close::Else(tokens, else_span) => match &tokens[0].kind {
            Kind::Word(word) if word == "if" || word == "with" => {
                vec![branch(tokens, else_span, pieces, depth + 1)?]
            }
            _ => {
                return Err(TemplateError::new(
                    else_span,
                    "expected `else` or `else if`",
                ));
            }
        },
    };
    let branch = Branch {
        subject,
        body,
        otherwise,
    };
    Ok(match word.as_str() {
        "if" => Node::If(branch),
        "with" => Node::With(branch),
        _ => Node::Range(branch),
    })
}

fn whole_pipeline(tokens: &[Token], span: (usize, usize)) -> Result<Pipeline, TemplateError> {
    let mut reader = Reader {
        tokens,
        at: 0,
        span,
        depth: 0,
    };
    let pipeline = reader.pipeline()?;
    match reader.peek() {
        None => Ok(pipeline),
        Some(token) => Err(TemplateError::new(token.span, "unexpected here")),
    }
}

/// Reads one action's tokens.
struct Reader<'t> {
    tokens: &'t [Token],
    at: usize,
    /// The whole action, for faults at its end.
    span: (usize, usize),
    depth: usize,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<&'t Token> {
        self.tokens.get(self.at)
    }

    fn eat(&mut self, kind: &Kind) -> bool {
        let found = self.peek().is_some_and(|token| token.kind == *kind);
        self.at += usize::from(found);
        found
    }

    fn pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        let (variables, declares) = self.declaration();
        let mut commands = vec![self.command()?];
        while self.eat(&Kind::Pipe) {
            commands.push(self.command()?);
        }
        Ok(Pipeline {
            variables,
            declares,
            commands,
        })
    }

    /// `$a :=`, `$a =` or `$a, $b :=`, if that is what comes.
    fn declaration(&mut self) -> (Vec<String>, bool) {
        let kinds: Vec<&Kind> = self.tokens[self.at..]
            .iter()
            .take(4)
            .map(|t| &t.kind)
            .collect();
        let (names, length, declares) = match kinds[..] {
            [Kind::Variable(name), Kind::Declare, ..] => (vec![name.clone()], 2, true),
            [Kind::Variable(name), Kind::Assign, ..] => (vec![name.clone()], 2, false),
            [
                Kind::Variable(a),
                Kind::Comma,
                Kind::Variable(b),
                Kind::Declare,
            ] => (vec![a.clone(), b.clone()], 4, true),
            _ => (Vec::new(), 0, true),
        };
        self.at += length;
        (names, declares)
    }

    fn command(&mut self) -> Result<Command, TemplateError> {
        let mut terms: Vec<Term> = Vec::new();
        while let Some(token) = self.peek() {
            if matches!(token.kind, Kind::Pipe | Kind::Close) {
                break;
            }
            terms.push(self.term(token)?);
        }
        let (Some(first), Some(last)) = (terms.first(), terms.last()) else {
            let span = self.peek().map_or(self.span, |token| token.span);
            return Err(TemplateError::new(span, "a value is missing"));
        };
        let span = (first.span.0, last.span.1);
        Ok(Command { terms, span })
    }

    fn term(&mut self, token: &Token) -> Result<Term, TemplateError> {
        self.at += 1;
        let mut fields = Vec::new();
        let base = match &token.kind {
            Kind::Dot => Base::Dot,
            Kind::Field(names) => {
                fields.clone_from(names);
                Base::Dot
            }
            Kind::Variable(name) => Base::Variable(name.clone()),
            Kind::Text(text) => Base::Literal(Value::from(text.as_str())),
            Kind::Integer(number) => Base::Literal(Value::from(*number)),
            Kind::Float(number) => Base::Literal(Value::from(*number)),
            Kind::Word(word) => match word.as_str() {
                "true" => Base::Literal(Value::Bool(true)),
                "false" => Base::Literal(Value::Bool(false)),
                "nil" => Base::Literal(Value::Null),
                _ => Base::Function(word.clone()),
            },
            Kind::Open => Base::Group(Box::new(self.group(token)?)),
            _ => return Err(TemplateError::new(token.span, "unexpected here")),
        };
        let mut end = self.tokens[self.at - 1].span.1;
        // `$x.Field` and `(…).Field`: only without a space between.
        if let Some(Token {
            kind: Kind::Field(names),
            span,
        }) = self.peek()
            && span.0 == end
            && matches!(base, Base::Variable(_) | Base::Group(_))
        {
            fields.clone_from(names);
            end = span.1;
            self.at += 1;
        }
        Ok(Term {
            base,
            fields,
            span: (token.span.0, end),
        })
    }

    fn group(&mut self, open: &Token) -> Result<Pipeline, TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(TemplateError::new(open.span, "nested too deeply"));
        }
        let pipeline = self.pipeline()?;
        self.depth -= 1;
        match self.eat(&Kind::Close) {
            true => Ok(pipeline),
            false => Err(TemplateError::new(
                open.span,
                "this `(` is never closed by `)`",
            )),
        }
    }
}
