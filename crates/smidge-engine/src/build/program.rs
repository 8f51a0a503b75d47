//! A program becomes an image: the program at `/NAME`, and nothing else.

use std::path::Path;

use smidge_image::{LayerPath, Platform};
use smidge_trim::Elf;

use super::content::Content;
use super::draft::{Draft, build_time};
use super::layer::{Layer, Member};
use super::request::BuildRequest;
use super::response::Stripped;
use super::{config, include};
use crate::{Error, Host, Kind, Note, Result};

/// A program that is ready to be packed.
pub(super) struct Program<'p> {
    /// Where it is.
    pub(super) path: &'p Path,
    /// What it is called in the image.
    pub(super) name: &'p str,
    /// What to call its source.
    pub(super) source: &'static str,
    /// Whether smidge had it compiled.
    pub(super) compiled: bool,
}

/// Drafts the image of a program.
pub(super) fn draft(program: &Program<'_>, request: &BuildRequest, host: &Host) -> Result<Draft> {
    let shown = program.path.display();
    let failed = |source| Error::io(format!("cannot read `{shown}`"), source);
    let size = program.path.metadata().map_err(failed)?.len();
    let mut content = Content::path(program.path, size);
    let elf = Elf::parse(&*content.open().map_err(failed)?).map_err(|error| {
        let message = format!("cannot make an image of `{shown}`: it is damaged");
        Error::new(Kind::Input, message).caused_by(error)
    })?;
    let mut draft = Draft::new(program.source, platform(&elf, request, program.path)?);
    draft.alone = true;
    draft.compiled = program.compiled;
    if request.strip != Some(false) {
        content = strip(content, request, &mut draft)?;
    }
    let path = LayerPath::parse(program.name.as_bytes()).map_err(|e| Error::of(Kind::Input, e))?;
    let mut layer = Layer::default();
    include::add(&mut layer, &request.includes, host)?;
    layer.insert(Member::file(path, 0o755, content, "the program"));
    layer.set_times(build_time(host));
    draft.push("smidge build", Some(layer));

    draft.config.entrypoint = Some(vec![format!("/{}", program.name)]);
    config::apply(&mut draft.config, &request.config, host)?;
    if !request.args.is_empty() {
        draft.config.cmd = Some(request.args.clone());
    }
    Ok(draft)
}

/// The machine that the program is for. It says so itself; what was asked for has to agree.
fn platform(elf: &Elf, request: &BuildRequest, path: &Path) -> Result<Platform> {
    let shown = path.display();
    let machine = elf.machine_name();
    let Some(architecture) = elf.architecture() else {
        let message = format!("cannot make an image of `{shown}`: it is for an unknown machine");
        return Err(Error::new(Kind::Input, message).with_fact(format!("machine: {machine}")));
    };
    match request.platform() {
        Some(wanted) if wanted.architecture != architecture => {
            let message = format!("`{shown}` is not for `{wanted}`");
            Err(Error::new(Kind::Input, message)
                .with_fact(format!("machine: {machine}"))
                .with_hint(format!(
                    "leave the option out, or say `--platform linux/{architecture}`"
                )))
        }
        Some(wanted) => Ok(wanted.clone()),
        None => Ok(Platform::linux(architecture)),
    }
}

/// Cuts off what the program can do without. What must be left as it is, is left, with a note;
/// unless stripping was asked for.
fn strip(content: Content, request: &BuildRequest, draft: &mut Draft) -> Result<Content> {
    let shown = request.path.display();
    let plan = {
        let file = content
            .open()
            .map_err(|source| Error::io(format!("cannot read `{shown}`"), source))?;
        smidge_trim::strip(&*file)
    };
    match plan {
        Ok(plan) => {
            let before = content.size();
            draft.stripped = Some(Stripped {
                before,
                after: plan.size,
            });
            Ok(content.stripped(plan))
        }
        Err(refusal) if request.strip == Some(true) => {
            let message = format!("cannot strip `{shown}`");
            Err(Error::new(Kind::Input, message)
                .caused_by(refusal)
                .with_hint(format!(
                    "pack it as it is: `smidge build --no-strip {shown}`"
                )))
        }
        Err(refusal) => {
            draft
                .notes
                .push(Note::new(format!("not stripped: {refusal}")));
            Ok(content)
        }
    }
}

/// The name that a program gets in its image: that of its file.
pub(super) fn name(path: &Path) -> Result<&str> {
    path.file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| {
            let message = format!("cannot name the program `{}` in JSON", path.display());
            Error::new(Kind::Input, message).with_hint("give the file a name in UTF-8")
        })
}
