// The protocol that a token is said to be of.
'use strict';

const { protocolClasses } = require('./protocols.cjs');

/**
 * Providers may leave it out: then it is what was asked for, else what the token's scopes name first.
 *
 * @param {string | null | undefined} said
 * @param {string | null | undefined} asked
 * @param {string[] | null | undefined} scopes
 * @returns {string | undefined}
 */
function typeOf(said, asked, scopes) {
  if (said || asked) return said || asked || undefined;
  return scopes?.map((scope) => String(scope).split(':', 1)[0]).find((name) => Object.hasOwn(protocolClasses, name));
}

module.exports = { typeOf };
