"""The mixed policy [C: DASD §3]: a student begins answers, the teacher ends those that ran too long."""
