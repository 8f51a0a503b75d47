//! `history`: how an image came to be.

use smidge_image::Platform;

use crate::{Engine, Result};

/// One step of an image's making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The image's id, on the last step; the others are not images.
    pub id: Option<String>,
    /// When, RFC 3339, if it says.
    pub created: Option<String>,
    /// The instruction.
    pub created_by: String,
    /// Bytes on disk of the layer that it made.
    pub size: u64,
    /// What there was to say.
    pub comment: String,
    /// The image's names, on the last step.
    pub tags: Vec<String>,
}

impl Engine {
    /// An image's steps, the last first.
    ///
    /// # Errors
    /// When there is no such image, not for the platform, or the store cannot be read.
    pub fn history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<Step>> {
        let image = self.store.image_for(name, platform)?;
        let mut layers = image.manifest.layers.iter().map(|layer| layer.size);
        let mut steps: Vec<Step> = image
            .config
            .history
            .iter()
            .map(|step| Step {
                id: None,
                created: step.created.clone(),
                created_by: step.created_by.clone().unwrap_or_default(),
                size: if step.empty_layer {
                    0
                } else {
                    layers.next().unwrap_or(0)
                },
                comment: step.comment.clone().unwrap_or_default(),
                tags: Vec::new(),
            })
            .collect();
        // Layers without history: some tools write none.
        steps.extend(layers.map(|size| Step {
            id: None,
            created: image.config.created.clone(),
            created_by: String::new(),
            size,
            comment: String::new(),
            tags: Vec::new(),
        }));
        steps.reverse();
        if let Some(last) = steps.first_mut() {
            last.id = Some(image.id.to_string());
            last.tags = image
                .names
                .iter()
                .map(smidge_image::Reference::familiar)
                .collect();
        }
        Ok(steps)
    }
}
