// The application's logger as a function that takes the lines of the binding.
'use strict';

const { invalidOption } = require('./errors.cjs');

const LEVELS = ['error', 'warn', 'info', 'debug', 'trace'];

/** From a line of JSON to what a logger is called with. */
function parsed(line) {
  const { timestamp, level, message, span, ...fields } = JSON.parse(line);
  /** @type {any} */
  const about = { time: timestamp ? new Date(timestamp) : new Date() };
  if (span?.id) about.requestId = span.id;
  if (span?.protocol) about.protocol = span.protocol;
  return { level: level.toLowerCase(), message: message ?? '', about: { ...about, ...fields } };
}

/**
 * @param {any} given an `ILogger`
 * @returns {((line: string) => void) | undefined} never throws: a logger that fails must not change what is answered
 */
function logger(given) {
  if (given === undefined || given === null) return undefined;
  for (const level of LEVELS) {
    if (given[level] !== undefined && typeof given[level] !== 'function') throw invalidOption(`logger.${level}`, 'must be a function');
  }
  if (!LEVELS.some((level) => given[level])) throw invalidOption('logger', `has none of the methods ${LEVELS.join(', ')}`);
  let told = false;
  const failed = (error) => {
    if (told) return;
    told = true;
    process.emitWarning(`the logger failed, which is said once: ${error?.message ?? error}`, { type: 'SmartRegistryWarning', code: 'SMARTREGISTRY_LOGGER' });
  };
  return (line) => {
    try {
      const { level, message, about } = parsed(line);
      // One that is async must not end the process with what it rejects with.
      given[level]?.(message, about)?.then?.(undefined, failed);
    } catch (error) {
      failed(error);
    }
  };
}

module.exports = { logger };
