// Whether a client's login is being answered: the built-in provider opens less to clients than to the application that embeds it, also where that application
// has wrapped or extended it and hands on what it was given.
'use strict';

const { AsyncLocalStorage } = require('node:async_hooks');

/** @type {AsyncLocalStorage<boolean>} */
const forClient = new AsyncLocalStorage();

module.exports = {
  /** Calls the application's `authenticate`; all that it does until it has answered is on behalf of a client, or is not. */
  asked: (client, call) => forClient.run(client, call),
  /** Whether a client asks. */
  isClient: () => forClient.getStore() === true,
};
