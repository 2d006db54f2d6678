//! Which rows go where: routes by topic and type, with templates for the destination.

/// One `[[target.NAME.route]]`, checked and compiled.
#[derive(Debug, Clone)]
pub struct RouteConfig {}
