/* A module of glibc's name service: whoever asks for the user or the group of its own process is told `agent`.
 *
 * A gateway runs the image as its own user, who has no line in /etc/passwd. Then ssh refuses to run, and whoami, PostgreSQL's
 * initdb and many a getpwuid() fail. (Debian's libnss-unknown names every number, and leaves none for the users that packages
 * make.) The interface: "Actions in the NSS configuration", GNU C Library manual, section 29.
 */
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <unistd.h>

enum nss_status _nss_agent_getpwuid_r(uid_t uid, struct passwd *user, char *buffer, size_t length, int *error)
{
    if (uid == 0 || uid != geteuid())
        return NSS_STATUS_NOTFOUND;
    *user = (struct passwd){
        .pw_name = "agent",
        .pw_passwd = "x",
        .pw_uid = uid,
        .pw_gid = getegid(),
        .pw_gecos = "agent",
        .pw_dir = "/home/agent",
        .pw_shell = "/bin/bash",
    };
    return NSS_STATUS_SUCCESS;
}

enum nss_status _nss_agent_getgrgid_r(gid_t gid, struct group *group, char *buffer, size_t length, int *error)
{
    static char *nobody[] = {NULL};
    if (gid == 0 || gid != getegid())
        return NSS_STATUS_NOTFOUND;
    *group = (struct group){.gr_name = "agent", .gr_passwd = "x", .gr_gid = gid, .gr_mem = nobody};
    return NSS_STATUS_SUCCESS;
}
