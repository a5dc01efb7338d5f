// Finds and loads the native addon. Everything it exports is private: the public API is the facade around it.
'use strict';

const { join } = require('node:path');
const { isMainThread } = require('node:worker_threads');
const { platforms, platformName } = require('./platform.cjs');

function load() {
  const chosen = process.env.NAPI_RS_NATIVE_LIBRARY_PATH;
  if (chosen) return require(chosen);
  const name = platformName();
  // A checkout's own build first, then the package that npm installed for this platform.
  const places = [join(__dirname, '..', `smartregistry.${name}.node`), `smartregistry-native-${name}`];
  let cause;
  for (const place of places) {
    try {
      return require(place);
    } catch (error) {
      error.cause ??= cause;
      cause = error;
    }
  }
  throw failure(name, cause);
}

/** Three different things can be wrong, and each has a different remedy. */
function failure(name, cause) {
  const { code, text } = reason(name, cause);
  return Object.assign(new Error(`smartregistry-native: ${text}`, { cause }), { code });
}

function reason(name, cause) {
  for (let error = cause; error instanceof Error; error = /** @type {any} */ (error.cause)) {
    if (/** @type {any} */ (error).code === 'MODULE_NOT_FOUND') continue;
    return { code: 'ADDON_UNUSABLE', text: `the addon for ${name} is here and does not load: ${error.message}` };
  }
  if (!platforms.includes(name)) {
    return {
      code: 'PLATFORM_UNSUPPORTED',
      text: `there is no addon for ${name}, only for ${platforms.join(', ')}; with Rust one can be built in a checkout: npm run build`,
    };
  }
  return {
    code: 'ADDON_MISSING',
    text: `the package smartregistry-native-${name} is not installed. It is an optional dependency of this one: install again without --omit=optional, on this platform `
      + '(a node_modules folder or an image made on another has the other\'s), or build the addon in a checkout: npm run build',
  };
}

/** @type {any} */
const binding = load();
// A worker that is terminated takes the memory of its Buffers along, whoever reads them: there they are copied.
if (isMainThread) binding.lendBuffers();

module.exports = binding;
