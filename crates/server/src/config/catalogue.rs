//! The tool catalogue's part of the configuration: `[targets.NAME]` and `[[tools]]`.

use super::document::Section;
use checkrein_core::classify::CatalogueConfig;

pub(super) fn read(root: &mut Section<'_>) -> CatalogueConfig {
    let _ = root.named("targets");
    let _ = root.values("tools");
    CatalogueConfig::default()
}
