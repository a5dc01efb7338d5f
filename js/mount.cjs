// Where the application has mounted the handler, and what path a request has in the registry.
'use strict';

/**
 * The base paths of protocols, the longest first. One at the root is no mount.
 *
 * @param {string[]} protocols `[name, base path, …]`
 */
function basePaths(protocols) {
  const paths = protocols.filter((_, i) => i % 2 === 1).map((path) => path.replace(/\/+$/, ''));
  return paths.filter((path) => path.startsWith('/')).sort((a, b) => b.length - a.length);
}

/** What was stripped off the URL on the way here. Express says so; Connect and middie keep the whole, and begin a URL of nothing with a slash. */
function mountOf({ url, baseUrl, originalUrl }) {
  if (typeof baseUrl === 'string') return baseUrl;
  if (typeof originalUrl !== 'string' || originalUrl === url) return '';
  const rest = originalUrl.endsWith(url) ? url : url.slice(1);
  return originalUrl.endsWith(rest) ? originalUrl.slice(0, originalUrl.length - rest.length) : '';
}

/**
 * The path of a request in the registry, and the prefix that links in its answer need. A mount that is, or ends with, the base path of a protocol is that path: there
 * `/npm/npm` is a package, whatever `/npm` alone would be. Any other one is a place for the whole registry, unless only the two together make a path of its own,
 * as `/v2` does.
 *
 * @param {any} native the binding's registry
 * @returns {(req: any) => { url: string, prefix: string }}
 */
function places(native) {
  let bases;
  return (req) => {
    const { url } = req;
    const mount = mountOf(req);
    if (mount === '') return { url, prefix: '' };
    bases ??= basePaths(native.protocols());
    const base = bases.find((path) => mount.endsWith(path));
    if (base !== undefined) return { url: base + url, prefix: mount.slice(0, -base.length) };
    if (!native.matches(url) && native.matches(mount + url)) return { url: mount + url, prefix: '' };
    return { url, prefix: mount };
  };
}

module.exports = { places };
