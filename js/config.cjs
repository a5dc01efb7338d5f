// Checks what only JavaScript can see of a configuration, and makes the text that the binding reads.
'use strict';

const binding = require('./binding.cjs');
const { invalidOption, own, RegistryError } = require('./errors.cjs');
const { fixedUpstreams } = require('./upstream.cjs');

/** Options that are objects with methods and never become JSON. */
const LIVE = ['authProvider', 'storageHooks', 'upstreamProvider', 'logger'];

const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);

/**
 * @param {any} config an `IRegistryConfig`
 * @returns {string}
 */
function configJson(config) {
  if (!isObject(config)) throw new RegistryError('SmartRegistry needs a configuration object', { code: 'INVALID_CONFIG', status: 400 });
  for (const name of ['storage', 'auth']) {
    if (config[name] !== undefined && !isObject(config[name])) throw invalidOption(name, 'must be an object');
  }
  for (const name of LIVE) {
    if (config[name] !== undefined && config[name] !== null && typeof config[name] !== 'object') throw invalidOption(name, 'must be an object with methods');
  }
  const plain = { ...config };
  for (const name of LIVE) delete plain[name];
  const fixed = config.upstreamProvider && fixedUpstreams(config.upstreamProvider);
  if (fixed) plain.upstreams = fixed;
  // What Node trusts, the S3 storage and the upstreams trust too.
  if (process.env.NODE_EXTRA_CA_CERTS && isObject(plain.storage)) plain.storage = { ...plain.storage, hostCaFile: process.env.NODE_EXTRA_CA_CERTS };
  try {
    return JSON.stringify(plain);
  } catch (error) {
    throw new RegistryError(`the configuration is no plain data: ${error.message}`, { code: 'INVALID_CONFIG', status: 400, cause: error });
  }
}

/**
 * Makes the native registry; a configuration that it refuses becomes an error that names the option.
 *
 * @param {any} config
 * @param {any} extensions wrapped methods of the application's objects
 * @param {Function} from whose caller the stack begins with
 */
function createRegistry(config, extensions, from) {
  const text = configJson(config);
  try {
    return binding.createRegistry(text, extensions);
  } catch (error) {
    const refused = own(error, from);
    refused.code = 'INVALID_CONFIG';
    const [, option] = /option `([^`]+)`/.exec(refused.message) ?? [];
    if (option) refused.option = option;
    throw refused;
  }
}

module.exports = { createRegistry, isObject };
